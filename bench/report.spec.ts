import { describe, expect, it } from "vitest";
import { line, markdown } from "./report.ts";

describe("a line of the benchmark", () => {
  it("compares medians measured in one run", () => {
    const result = line({
      name: "x",
      unit: "ms",
      ours: [30, 10, 20],
      floor: [10, 10, 40],
      limit: { ratioToFloor: 2 },
    });
    expect(result).toMatchObject({
      ratioToFloor: 2,
      holds: true,
      ours: { min: 10, median: 20, p99: 30, n: 3 },
    });
  });

  it("does not hold when it is over its limit, or when there is nothing to compare", () => {
    expect(line({ name: "x", unit: "ms", ours: [21], floor: [10], limit: { ratioToFloor: 2 } }).holds).toBe(
      false,
    );
    expect(line({ name: "x", unit: "ms", ours: [], limit: { median: 100 } }).holds).toBe(false);
    expect(line({ name: "x", unit: "ms", ours: [1], limit: { ratioToFloor: 2 } }).holds).toBe(false);
    expect(line({ name: "x", unit: "ms", ours: [1], floor: [], limit: { ratioToFloor: 2 } }).holds).toBe(
      false,
    );
  });

  it("is a row of a table that says whether it holds", () => {
    const table = markdown([
      line({ name: "slow", unit: "ms", ours: [3], alternative: [1], limit: { ratioToAlternative: 0.02 } }),
    ]);
    expect(table).toContain("| slow | 3.0 ms (3.0 to 3.0, n=1) |");
    expect(table).toContain("≤ 1/50 of the alternative | **no** |");
  });
});
