import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { InspectedContainer } from "./containers.ts";
import { quietMoment } from "./quiet-moment.ts";
import { container } from "./testing/fake-guest.ts";

const nowMs = Date.parse("2030-01-01T00:00:00Z");

/** A container whose last check ended so long ago. */
function checked(name: string, { agoMs = 0, everyMs = 10_000, tookMs = 200 } = {}): InspectedContainer {
  const End = new Date(nowMs - agoMs).toISOString();
  const Start = new Date(nowMs - agoMs - tookMs).toISOString();
  const one = container(name, {
    Health: { Status: "healthy", Log: [{ ExitCode: 0, Output: "", Start, End }] },
  });
  one.Config.Healthcheck = { Interval: everyMs * 1e6 };
  return one;
}

describe("the moment to freeze", () => {
  it("is now when nothing has a healthcheck", () => {
    expect(quietMoment([container("a")], nowMs)).toEqual({ waitMs: 0, quietMs: Number.POSITIVE_INFINITY });
  });

  it("is now just after a check", () => {
    expect(quietMoment([checked("a", { agoMs: 1000 })], nowMs)).toEqual({ waitMs: 0, quietMs: 9000 });
  });

  it("is after the check that is due soon", () => {
    const { waitMs, quietMs } = quietMoment([checked("a", { agoMs: 9000 })], nowMs);
    expect(waitMs).toBe(1000 + 200 + 500);
    expect(quietMs).toBeGreaterThan(9000);
  });

  it("is the largest gap between checks that never leave room enough", () => {
    const containers = [
      checked("a", { agoMs: 500, everyMs: 3000 }),
      checked("b", { agoMs: 2500, everyMs: 3000 }),
    ];
    const { waitMs, quietMs } = quietMoment(containers, nowMs);
    expect(waitMs).toBeGreaterThan(0);
    expect(quietMs).toBeGreaterThan(500);
  });

  it("is never less quiet than now, nor later than a period after half a minute", () => {
    const any = fc.record({
      agoMs: fc.integer({ min: 0, max: 40_000 }),
      everyMs: fc.integer({ min: 1000, max: 60_000 }),
      tookMs: fc.integer({ min: 0, max: 900 }),
    });
    fc.assert(
      fc.property(fc.array(any, { minLength: 1, maxLength: 5 }), (checks) => {
        const containers = checks.map((check, i) => checked(`s${i}`, check));
        const due = checks.map(({ agoMs, everyMs }) => Math.max(everyMs - agoMs, 0));
        const { waitMs, quietMs } = quietMoment(containers, nowMs);
        expect(quietMs).toBeGreaterThanOrEqual(Math.min(...due));
        expect(waitMs).toBeGreaterThanOrEqual(0);
        expect(waitMs).toBeLessThan(92_000);
      }),
    );
  });
});
