/**
 * What is in Layer 0's initramfs: the agent as /init, busybox with its applets for a shell and tools as long
 * as there is no root disk, and the modules of every device that one of the VMMs offers.
 */
import { type CpioEntry, writeCpio } from "./cpio.ts";

export interface InitramfsContent {
  agent: Uint8Array;
  busybox: Uint8Array;
  /** As `busybox --list-full` prints them: paths without a leading slash. */
  applets: readonly string[];
  /** In load order. */
  modules: readonly { name: string; content: Uint8Array }[];
}

const moduleDirectory = "lib/modules/sporelet";
const text = (content: string) => Buffer.from(content);

/** @returns the archive, uncompressed; the same content gives the same bytes */
export function writeInitramfs({ agent, busybox, applets, modules }: InitramfsContent): Uint8Array {
  const directories = [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "mnt",
    "sysroot",
    "var/log/sporelet",
    "usr/bin",
    "usr/sbin",
  ];
  // `init` would shadow nothing here, but PID 1 is the agent and no second one is wanted in the PATH.
  const links = [...new Set(applets)].filter(
    (path) => !["bin/busybox", "init", "sbin/init", "linuxrc"].includes(path),
  );
  return writeCpio([
    ...directories.map(
      (path): CpioEntry => ({ path, type: "directory", ...(path === "tmp" && { mode: 0o1777 }) }),
    ),
    { path: "dev/console", type: "character-device", major: 5, minor: 1 },
    { path: "dev/null", type: "character-device", major: 1, minor: 3, mode: 0o666 },
    { path: "init", type: "file", content: agent, mode: 0o755 },
    { path: "bin/busybox", type: "file", content: busybox, mode: 0o755 },
    ...links.map((path): CpioEntry => ({ path, type: "symlink", target: "/bin/busybox" })),
    ...modules.map(
      ({ name, content }): CpioEntry => ({ path: `${moduleDirectory}/${name}`, type: "file", content }),
    ),
    {
      path: "etc/sporelet/modules",
      type: "file",
      content: text(modules.map(({ name }) => `/${moduleDirectory}/${name}\n`).join("")),
    },
    {
      path: "etc/passwd",
      type: "file",
      content: text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    },
    { path: "etc/group", type: "file", content: text("root:x:0:\nnogroup:x:65534:\n") },
  ]);
}
