import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/**
 * Starts a program that says a line before and a line after each piece of its work, lets it do the first
 * piece, and kills it within the second: after `part` (0 to 1) of what the first one took. What it took is
 * counted in file reads of this process, so that the instants are spread over the work on any machine.
 */
export async function startAndKill(program: URL, root: string, part: number): Promise<void> {
  const child = spawn(process.execPath, [fileURLToPath(program), root], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  const lines = createInterface(child.stdout);
  await once(lines, "line");
  let done = false;
  lines.once("line", () => {
    done = true;
  });
  let reads = 0;
  for (; !done && child.exitCode === null; reads++) await readFile("/proc/self/stat");
  await once(lines, "line");
  for (let i = 0; i < part * reads; i++) await readFile("/proc/self/stat");
  child.kill("SIGKILL");
  await ended;
}
