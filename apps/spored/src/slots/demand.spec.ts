import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { coldAfterMs, createDemand, halfLifeMs } from "./demand.ts";

describe("demand", () => {
  it("is worth one slot when nothing was asked for, or long ago", () => {
    const demand = createDemand(0);
    expect(demand.slots(0)).toBe(1);
    for (let i = 0; i < 16; i++) demand.arrived(1000);
    expect(demand.slots(1000 + 20 * halfLifeMs)).toBe(1);
  });

  it("is worth nothing when nobody asks any more, and one again with the next who does", () => {
    const demand = createDemand(500);
    expect(demand.slots(500 + coldAfterMs)).toBe(1);
    expect(demand.slots(501 + coldAfterMs)).toBe(0);
    demand.arrived(502 + coldAfterMs);
    expect(demand.slots(502 + coldAfterMs)).toBe(1);
    expect(demand.slots(502 + 2 * coldAfterMs)).toBe(1);
    expect(demand.slots(503 + 2 * coldAfterMs)).toBe(0);
  });

  it("is worth as many as came in a burst, and half of them after each half-life", () => {
    const demand = createDemand(0);
    for (let i = 0; i < 16; i++) demand.arrived(5000 + i);
    expect([0, 1, 2, 3].map((n) => demand.slots(5016 + n * halfLifeMs))).toEqual([16, 8, 4, 2]);
  });

  it("never falls by an arrival, nor exceeds the number of arrivals", () => {
    const arrivals = fc.array(fc.integer({ min: 0, max: 300_000 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(arrivals, (gaps) => {
        const demand = createDemand(0);
        let nowMs = 0;
        for (const gap of gaps) {
          nowMs += gap;
          const before = demand.slots(nowMs);
          demand.arrived(nowMs);
          expect(demand.slots(nowMs)).toBeGreaterThanOrEqual(before);
          expect(demand.slots(nowMs)).toBeLessThanOrEqual(gaps.length);
        }
      }),
    );
  });
});
