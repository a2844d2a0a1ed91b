import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { digestsIn } from "./collect/inventory.ts";
import { entriesOf, type Layout, sweepTemporary } from "./layout.ts";

/** Younger ones may be at work: a snapshot whose publication comes first, a file before its rename. */
const leastAgeMs = 3_600_000;

/**
 * Removes what crashes left: directories in `tmp` of processes that have ended, temporary files that were to
 * replace others, and how snapshots are published that are no more.
 *
 * @returns the names of what was removed.
 */
export async function sweepLeftovers(layout: Layout): Promise<string[]> {
  const removed = await sweepTemporary(layout);
  const present = new Set<string>(await digestsIn(layout.snapshots));
  const isLeft = (name: string) => {
    if (/^\..+\.[0-9a-f]{8}\.tmp$/.test(name)) return true; // See writeFileAtomic of @sporelet/host.
    const [, hex] = /^([0-9a-f]{64})\.json$/.exec(name) ?? [];
    return hex !== undefined && !present.has(`sha256:${hex}`);
  };
  for (const directory of [layout.root, layout.publications]) {
    for (const entry of await entriesOf(directory)) {
      const path = join(directory, entry.name);
      if (!entry.isFile() || !isLeft(entry.name) || !(await isOld(path))) continue;
      await rm(path, { force: true });
      removed.push(entry.name);
    }
  }
  return removed;
}

async function isOld(path: string): Promise<boolean> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  return found !== undefined && Date.now() - found.mtimeMs > leastAgeMs;
}
