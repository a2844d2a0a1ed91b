import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/**
 * Starts a program on a store, waits for its first line, and kills it after some more file
 * system work than `patience`.
 */
export async function startAndKill(program: URL, root: string, patience: number): Promise<void> {
  const child = spawn(process.execPath, [fileURLToPath(program), root], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  const lines = createInterface(child.stdout);
  await once(lines, "line");
  // An instant within its work: turns of the event loop, which the machine's speed scales along.
  for (let i = 0; i < patience; i++) await readFile("/proc/self/stat");
  child.kill("SIGKILL");
  await ended;
}
