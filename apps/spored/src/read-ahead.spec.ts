import fc from "fast-check";
import { expect, it } from "vitest";
import { stretchesOf } from "./read-ahead.ts";

it("reads runs that are near each other at once, and none twice", () => {
  expect(
    stretchesOf([
      { page: 100, count: 2 },
      { page: 0, count: 1 },
      { page: 10, count: 5 },
      { page: 11, count: 1 },
    ]),
  ).toEqual([
    { page: 0, count: 15 },
    { page: 100, count: 2 },
  ]);
});

it("reads every page of every run, a bounded number at a time", () => {
  const runs = fc.array(
    fc.record({ page: fc.integer({ min: 0, max: 5000 }), count: fc.integer({ min: 1, max: 700 }) }),
  );
  fc.assert(
    fc.property(runs, (given) => {
      const stretches = stretchesOf(given);
      let end = 0;
      for (const { page, count } of stretches) {
        expect(page).toBeGreaterThanOrEqual(end);
        expect(count).toBeLessThanOrEqual(256);
        end = page + count;
      }
      for (const { page, count } of given) {
        const covered = stretches.reduce(
          (sum, each) =>
            sum + Math.max(0, Math.min(page + count, each.page + each.count) - Math.max(page, each.page)),
          0,
        );
        expect(covered).toBe(count);
      }
    }),
  );
});
