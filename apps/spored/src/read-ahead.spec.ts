import fc from "fast-check";
import { expect, it } from "vitest";
import { stretchesOf } from "./read-ahead.ts";

it("reads runs that follow each other at once, in the order in which they are needed", () => {
  expect(
    stretchesOf([
      { page: 100, count: 2 },
      { page: 102, count: 1 },
      { page: 0, count: 300 },
      { page: 99, count: 1 },
    ]),
  ).toEqual([
    { page: 100, count: 3 },
    { page: 0, count: 256 },
    { page: 256, count: 44 },
    { page: 99, count: 1 },
  ]);
});

it("reads every page of every run, a bounded number at a time", () => {
  const runs = fc.array(
    fc.record({ page: fc.integer({ min: 0, max: 5000 }), count: fc.integer({ min: 1, max: 700 }) }),
  );
  const pagesOf = (all: readonly { page: number; count: number }[]) =>
    all.flatMap(({ page, count }) => Array.from({ length: count }, (_, i) => page + i));
  fc.assert(
    fc.property(runs, (given) => {
      const stretches = stretchesOf(given);
      for (const { count } of stretches) expect(count).toBeLessThanOrEqual(256);
      expect(pagesOf(stretches)).toEqual(pagesOf(given));
    }),
  );
});
