import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createBackoff, firstWaitMs, longestWaitMs, steadyMs } from "./backoff.ts";

describe("a backoff", () => {
  it("lets the first failure be tried again at once, and waits twice as long after each that follows", () => {
    const backoff = createBackoff();
    const waits: number[] = [];
    let nowMs = 1000;
    for (let failure = 0; failure < 9; failure++) {
      backoff.failed(nowMs);
      waits.push(backoff.waitMs(nowMs));
      nowMs += backoff.waitMs(nowMs) + 1;
    }
    const expected = [1, 2, 4, 8, 16].map((factor) => factor * firstWaitMs);
    expect(waits).toEqual([0, ...expected, longestWaitMs, longestWaitMs, longestWaitMs]);
  });

  it("takes what fails while it waits for a part of the same failure", () => {
    const backoff = createBackoff();
    for (let failure = 0; failure < 20; failure++) backoff.failed(500);
    expect(backoff.waitMs(500)).toBe(firstWaitMs);
  });

  it("begins anew after a steady time, and when it is told to", () => {
    const backoff = createBackoff();
    backoff.failed(0);
    backoff.failed(1);
    backoff.failed(1 + firstWaitMs + steadyMs + 1);
    expect(backoff.waitMs(1 + firstWaitMs + steadyMs + 1)).toBe(0);
    backoff.failed(1 + firstWaitMs + steadyMs + 2);
    backoff.reset();
    expect(backoff.waitMs(1 + firstWaitMs + steadyMs + 2)).toBe(0);
  });

  it("never waits longer than its longest", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2 * longestWaitMs), { maxLength: 50 }), (gaps) => {
        const backoff = createBackoff();
        let nowMs = 0;
        for (const gap of gaps) {
          nowMs += gap;
          backoff.failed(nowMs);
          expect(backoff.waitMs(nowMs)).toBeLessThanOrEqual(longestWaitMs);
        }
      }),
    );
  });
});
