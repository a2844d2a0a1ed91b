import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { syncPath } from "@sporelet/host";

const atOnce = 16;

/** Sees to it that all files and directories below a directory, and itself, survive a crash of the host. */
export async function syncTree(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  // Symbolic links, devices and sockets have no content; they are entries of their directory.
  const paths = entries
    .filter((entry) => entry.isFile() || entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));
  const queue = [directory, ...paths].values();
  const work = async () => {
    for (const path of queue) await syncPath(path);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, paths.length + 1) }, work));
}
