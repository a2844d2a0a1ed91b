import type { FileHandle } from "node:fs/promises";
import { differingPages } from "./differing-pages.ts";
import { pagesIn } from "./format.ts";
import { intersectRuns, normalizeRuns, subtractRuns } from "./runs.ts";
import { storedPages } from "./sparse.ts";
import type { PageRun } from "./types.ts";

/** What an encoding has to look at, in which order. */
export interface EncodePlan {
  /** Whether there is a base: pages that became zero have to be said. */
  delta: boolean;
  /** Pages to encode, unless they are found to be zero; `hot` in the order in which they are wanted. */
  hot: PageRun[];
  cold: PageRun[];
  /** Pages that are known to be zero. */
  zeros: PageRun[];
}

export interface PlanOptions {
  image: string;
  base?: string | undefined;
  changed?: readonly PageRun[] | undefined;
  first?: readonly PageRun[] | undefined;
  signal?: AbortSignal | undefined;
}

/** See `EncodeOptions` for the options. */
export async function planEncoding(
  from: FileHandle,
  imageBytes: number,
  { image, base, changed, first = [], signal }: PlanOptions,
): Promise<EncodePlan> {
  const whole = [{ page: 0, count: pagesIn(imageBytes) }];
  const stored = intersectRuns(await storedPages(from), whole);
  let wanted = stored;
  let zeros: PageRun[] = [];
  const delta = base !== undefined || changed !== undefined;
  if (delta) {
    const differing =
      base === undefined
        ? intersectRuns(normalizeRuns(changed ?? []), whole)
        : await differingPages(image, base, { within: changed, signal });
    wanted = intersectRuns(differing, stored);
    zeros = subtractRuns(differing, stored);
  }
  const { hot, all } = hotPages(first, wanted);
  return { delta, hot, cold: subtractRuns(wanted, all), zeros };
}

/** The wanted pages of a list that has an order of its own: in that order, and (`all`) ascending. */
function hotPages(first: readonly PageRun[], wanted: readonly PageRun[]): { hot: PageRun[]; all: PageRun[] } {
  const all = intersectRuns(normalizeRuns(first), wanted);
  const ascending = first.every((run, i) => i === 0 || run.page >= endOf(first[i - 1]));
  if (ascending) return { hot: all, all };
  const seen = new Set<number>();
  const hot: PageRun[] = [];
  // Page by page: the working set of a resume has thousands of pages, not millions.
  for (const run of first) {
    for (const { page, count } of intersectRuns([run], within(wanted, run))) {
      for (let at = page; at < page + count; at++) {
        if (seen.has(at)) continue;
        seen.add(at);
        const last = hot.at(-1);
        if (last !== undefined && endOf(last) === at) last.count++;
        else hot.push({ page: at, count: 1 });
      }
    }
  }
  return { hot, all };
}

function endOf(run: PageRun | undefined): number {
  return run === undefined ? 0 : run.page + run.count;
}

/** The part of a list, found by bisection, that can meet a run. */
function within(runs: readonly PageRun[], { page, count }: PageRun): readonly PageRun[] {
  let low = 0;
  for (let high = runs.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if (endOf(runs[middle]) > page) high = middle;
    else low = middle + 1;
  }
  let end = low;
  while ((runs[end]?.page ?? Number.POSITIVE_INFINITY) < page + count) end++;
  return runs.slice(low, end);
}
