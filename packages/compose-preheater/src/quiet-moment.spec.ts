import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { healthcheckTimers, quietEnoughMs, quietMs } from "./quiet-moment.ts";
import { container } from "./testing/fake-guest.ts";

const nowMs = Date.parse("2030-01-01T00:00:00Z");

describe("the quiet after a healthcheck", () => {
  it("lasts for ever when nothing has one", () => {
    const timers = healthcheckTimers([
      container("a"),
      container("b", { Health: { Status: "starting", Log: [] } }),
    ]);
    expect(timers).toEqual([]);
    expect(quietMs(timers, nowMs)).toBe(Number.POSITIVE_INFINITY);
  });

  it("lasts for one interval from the end of the last check", () => {
    const End = new Date(nowMs - 4000).toISOString();
    const one = container("a", { Health: { Status: "healthy", Log: [{ ExitCode: 0, Output: "", End }] } });
    one.Config.Healthcheck = { Interval: 10e9 };
    expect(quietMs(healthcheckTimers([one]), nowMs)).toBe(6000);
    one.Config.Healthcheck = {};
    expect(quietMs(healthcheckTimers([one]), nowMs)).toBe(26_000);
  });

  const timer = fc.record({
    container: fc.string(),
    intervalMs: fc.integer({ min: 100, max: 60_000 }),
    endedMs: fc.integer({ min: nowMs - 90_000, max: nowMs }),
  });

  it("is that of the check that comes first, and over when one is due", () => {
    fc.assert(
      fc.property(fc.array(timer, { minLength: 1 }), (timers) => {
        const each = timers.map((one) => quietMs([one], nowMs));
        expect(quietMs(timers, nowMs)).toBe(Math.min(...each));
        const due = timers.some(({ endedMs, intervalMs }) => endedMs + intervalMs <= nowMs);
        expect(quietMs(timers, nowMs) === 0).toBe(due);
      }),
    );
  });

  it("is always long enough just after a check that is alone", () => {
    fc.assert(
      fc.property(timer, (one) => {
        expect(quietMs([{ ...one, endedMs: nowMs }], nowMs)).toBeGreaterThanOrEqual(quietEnoughMs([one]));
      }),
    );
  });
});
