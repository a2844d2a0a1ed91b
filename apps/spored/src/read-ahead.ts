import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { pageBytes, willNeed } from "@sporelet/host";
import type { PageRun } from "@sporelet/page-image";
import type { StoredSnapshot } from "@sporelet/store";
import { readWorkingSet } from "./lazy/working-set.ts";

const largestReadPages = 256;
/** As much as a disk does in a millisecond: what others read, above all the guest itself, is not to wait for all. */
const readsAtOnce = 16;
const pauseMs = 1;

/**
 * Has the kernel read the pages of memory that a resume touches first, a stretch at a time and many side by side,
 * instead of one fault after the other. A recording that cannot be read only makes a start slower.
 *
 * @param signal ends it: what was not read by then is not worth it any more
 */
export async function readAhead(
  { memory, workingset }: Pick<StoredSnapshot["files"], "memory" | "workingset">,
  signal: AbortSignal,
): Promise<void> {
  if (workingset === undefined) return;
  const runs = (await readWorkingSet(workingset, () => {})).filter(({ image }) => image === "memory");
  await using file = await open(memory, "r");
  for (const [i, { page, count }] of stretchesOf(runs).entries()) {
    if (signal.aborted) return;
    willNeed(file.fd, page * pageBytes, count * pageBytes);
    if (i % readsAtOnce === readsAtOnce - 1) await sleep(pauseMs);
  }
}

/** Runs in their order, those that follow each other as one, none longer than one read. Pure. */
export function stretchesOf(runs: readonly PageRun[]): PageRun[] {
  const stretches: PageRun[] = [];
  for (const { page, count } of runs) {
    const last = stretches.at(-1);
    if (last !== undefined && last.page + last.count === page) last.count += count;
    else stretches.push({ page, count });
  }
  return stretches.flatMap(({ page, count }) =>
    Array.from({ length: Math.ceil(count / largestReadPages) }, (_, i) => ({
      page: page + i * largestReadPages,
      count: Math.min(largestReadPages, count - i * largestReadPages),
    })),
  );
}
