import type { PageRun } from "./types.ts";

/** Puts runs in order and merges what overlaps or adjoins; empty runs go. */
export function normalizeRuns(runs: readonly PageRun[]): PageRun[] {
  const result: PageRun[] = [];
  for (const { page, count } of runs.toSorted((a, b) => a.page - b.page)) {
    if (count > 0) appendPages(result, page, count);
  }
  return result;
}

/** Adds pages to a list in order; what overlaps or adjoins the last run extends it. */
export function appendPages(runs: PageRun[], page: number, count: number): void {
  const last = runs.at(-1);
  if (last !== undefined && page <= last.page + last.count) {
    last.count = Math.max(last.count, page + count - last.page);
  } else {
    runs.push({ page, count });
  }
}

/** The pages that are in either list. */
export function uniteRuns(a: readonly PageRun[], b: readonly PageRun[]): PageRun[] {
  const result: PageRun[] = [];
  let i = 0;
  let j = 0;
  for (;;) {
    const [left, right] = [a[i], b[j]];
    const next = right === undefined || (left !== undefined && left.page <= right.page) ? left : right;
    if (next === undefined) return result;
    if (next === left) i++;
    else j++;
    appendPages(result, next.page, next.count);
  }
}

/** The pages that are in both lists. */
export function intersectRuns(a: readonly PageRun[], b: readonly PageRun[]): PageRun[] {
  const result: PageRun[] = [];
  let j = 0;
  for (const { page, count } of a) {
    const end = page + count;
    for (;;) {
      const other = b[j];
      if (other === undefined) return result;
      const start = Math.max(page, other.page);
      const stop = Math.min(end, other.page + other.count);
      if (start < stop) result.push({ page: start, count: stop - start });
      if (other.page + other.count > end) break; // The rest of it may meet the next run of `a`.
      j++;
    }
  }
  return result;
}

/** The pages of `a` that are not in `b`. */
export function subtractRuns(a: readonly PageRun[], b: readonly PageRun[]): PageRun[] {
  const result: PageRun[] = [];
  let j = 0;
  for (const { page, count } of a) {
    let start = page;
    const end = page + count;
    for (; start < end; j++) {
      const other = b[j];
      if (other === undefined || other.page >= end) break;
      if (other.page > start) result.push({ page: start, count: other.page - start });
      start = Math.max(start, other.page + other.count);
      if (other.page + other.count > end) break; // The rest of it may meet the next run of `a`.
    }
    if (start < end) result.push({ page: start, count: end - start });
  }
  return result;
}

export function countPages(runs: readonly PageRun[]): number {
  return runs.reduce((sum, { count }) => sum + count, 0);
}

/** Cuts runs into pieces of at most `pages` pages. */
export function* piecesOf(runs: Iterable<PageRun>, pages: number): Generator<PageRun> {
  for (const { page, count } of runs) {
    for (let done = 0; done < count; done += pages) {
      yield { page: page + done, count: Math.min(pages, count - done) };
    }
  }
}
