import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { countPages, intersectRuns, normalizeRuns, piecesOf, subtractRuns, uniteRuns } from "./runs.ts";
import type { PageRun } from "./types.ts";

const unordered = fc.array(fc.record({ page: fc.nat(100), count: fc.nat(20) }), { maxLength: 20 });
const runs = unordered.map(normalizeRuns);

function pagesOf(list: readonly PageRun[]): number[] {
  const pages = list.flatMap(({ page, count }) => Array.from({ length: count }, (_, i) => page + i));
  return [...new Set(pages)].sort((a, b) => a - b);
}

function isNormal(list: readonly PageRun[]): boolean {
  return list.every(({ page, count }, i) => {
    const last = list[i - 1];
    return count > 0 && (last === undefined || page > last.page + last.count);
  });
}

describe("runs of pages", () => {
  it("have one normal form", () => {
    fc.assert(
      fc.property(unordered, (list) => {
        const normal = normalizeRuns(list);
        expect(isNormal(normal)).toBe(true);
        expect(pagesOf(normal)).toEqual(pagesOf(list));
        expect(countPages(normal)).toBe(pagesOf(list).length);
      }),
    );
  });

  it("unite, intersect and subtract as sets do", () => {
    fc.assert(
      fc.property(runs, runs, (a, b) => {
        const [left, right] = [pagesOf(a), pagesOf(b)];
        expect(uniteRuns(a, b)).toEqual(normalizeRuns([...a, ...b]));
        expect(pagesOf(intersectRuns(a, b))).toEqual(left.filter((page) => right.includes(page)));
        expect(pagesOf(subtractRuns(a, b))).toEqual(left.filter((page) => !right.includes(page)));
        expect(isNormal(subtractRuns(a, b)) && isNormal(intersectRuns(a, b))).toBe(true);
      }),
    );
  });

  it("are cut into pieces of a size", () => {
    fc.assert(
      fc.property(runs, fc.integer({ min: 1, max: 7 }), (list, size) => {
        const pieces = [...piecesOf(list, size)];
        expect(pagesOf(pieces)).toEqual(pagesOf(list));
        expect(pieces.every(({ count }) => count > 0 && count <= size)).toBe(true);
      }),
    );
  });
});
