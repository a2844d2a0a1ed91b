import { open } from "node:fs/promises";
import { pageBytes } from "@sporelet/host";
import type { PageRun } from "@sporelet/page-image";
import type { StoredSnapshot } from "@sporelet/store";
import { readWorkingSet } from "./lazy/working-set.ts";

/** Pages between two runs are read too when they are no more than this: one read is cheaper than two. */
const largestGapPages = 16;
const largestReadPages = 256;
const readersAtOnce = 4;

/**
 * Reads the pages of memory that a resume touches first into the page cache, a stretch at a time instead of one
 * fault after the other. A recording that cannot be read only makes a start slower.
 *
 * @param signal ends it: what was not read by then is not worth it any more
 */
export async function readAhead(
  { memory, workingset }: Pick<StoredSnapshot["files"], "memory" | "workingset">,
  signal: AbortSignal,
): Promise<void> {
  if (workingset === undefined) return;
  const runs = (await readWorkingSet(workingset, () => {})).filter(({ image }) => image === "memory");
  const stretches = stretchesOf(runs).values();
  await using file = await open(memory, "r");
  const read = async () => {
    const buffer = Buffer.allocUnsafe(largestReadPages * pageBytes);
    for (const { page, count } of stretches) {
      if (signal.aborted) return;
      await file.read(buffer, 0, count * pageBytes, page * pageBytes);
    }
  };
  await Promise.all(Array.from({ length: readersAtOnce }, read));
}

/** Runs in order, those that are near each other as one, none longer than one read. Pure. */
export function stretchesOf(runs: readonly PageRun[]): PageRun[] {
  const stretches: PageRun[] = [];
  for (const { page, count } of runs.toSorted((a, b) => a.page - b.page)) {
    const last = stretches.at(-1);
    if (last !== undefined && page - (last.page + last.count) <= largestGapPages) {
      last.count = Math.max(last.count, page + count - last.page);
    } else stretches.push({ page, count });
  }
  return stretches.flatMap(({ page, count }) =>
    Array.from({ length: Math.ceil(count / largestReadPages) }, (_, i) => ({
      page: page + i * largestReadPages,
      count: Math.min(largestReadPages, count - i * largestReadPages),
    })),
  );
}
