import { createRequire } from "node:module";
import { hugePageFilter } from "@sporelet/host";

/**
 * Becomes a program that gets no huge pages. It is a script of its own, without imports, because it stands in the
 * way of each lazy start: Node runs it in 40 ms, and the whole of spored in 130 ms (on a busy host).
 *
 * Arguments: path of koffi, number of seccomp(2), filter in hexadecimal, program, its arguments.
 */
const script = `
const [koffiPath, number, filter, name, ...args] = process.argv.slice(1);
const koffi = require(koffiPath);
const libc = koffi.load(null);
const syscall = libc.func("long syscall(long number, unsigned int operation, unsigned int flags, void *argument)");
const fcntl = libc.func("int fcntl(int fd, int command, int argument)");
const fail = (what) => { throw new Error(what + " failed with errno " + koffi.errno()); };
const instructions = Buffer.from(filter, "hex");
const fprog = Buffer.alloc(16); // struct sock_fprog: a count, padding, a pointer
fprog.writeUInt16LE(instructions.length / 8, 0);
fprog.writeBigUInt64LE(koffi.address(instructions), 8);
// SECCOMP_SET_MODE_FILTER; SECCOMP_FILTER_FLAG_SPEC_ALLOW: without it older kernels slow the program down.
if (syscall(Number(number), 1, 4, fprog) !== 0) fail("seccomp");
// The VMM's monitor, its state, what is loaded into it; Node keeps what it inherits to itself. 2 is F_SETFD.
for (const fd of [3, 4, 5]) if (fcntl(fd, 2, 0) !== 0) fail("fcntl");
const directories = ((process.env.PATH || "") + ":/usr/local/sbin:/usr/sbin:/sbin").split(":");
const { accessSync, constants } = require("node:fs");
const program = name.includes("/") ? name : directories.map((each) => each + "/" + name).find((path) => {
  try { accessSync(path, constants.X_OK); return true; } catch { return false; }
});
if (program === undefined) throw new Error(name + " is not installed");
process.execve(program, [name, ...args], process.env);
`;

const seccompNumbers: Record<string, number> = { x64: 317, arm64: 277 };

/** Words to put before a VMM's command line, so that it touches lazy memory page by page. Needs root. */
export function exactPagesLauncher(): string[] {
  const koffi = createRequire(import.meta.url).resolve("koffi");
  const number = String(seccompNumbers[process.arch]);
  return [process.execPath, "-e", script, koffi, number, hugePageFilter().toString("hex")];
}
