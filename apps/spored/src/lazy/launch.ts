import { findProgram, keepOnExec, refuseHugePages } from "@sporelet/host";
import { selfCommand } from "./spawn.ts";

/** Words to put before a VMM's command line, so that it touches lazy memory page by page. */
export function exactPagesLauncher(): string[] {
  return [...selfCommand(), "exact-pages"];
}

/** What a VMM is started with beside its standard three: its monitor, and the state that it loads. */
const inheritedFds = [3, 4];

/** `spored exact-pages PROGRAM ARGUMENT...`: becomes a program that gets no huge pages. */
export async function runExactPages([name = "", ...args]: string[]): Promise<never> {
  const program = name.includes("/") ? name : await findProgram(name);
  if (program === undefined) throw new Error(`${name} is not installed`);
  refuseHugePages();
  // Node keeps what it inherits to itself.
  for (const fd of inheritedFds) keepOnExec(fd);
  if (process.execve === undefined) throw new Error("this Node cannot become another program");
  return process.execve(program, [name, ...args], process.env);
}
