import { describe, expect, it } from "vitest";
import { createWallClock } from "./wall-clock.ts";

/** A host whose clocks are told what time it is. */
function host() {
  const now = { wall: 1_700_000_000_000.25, monotonic: 5_000.5 };
  return {
    clock: createWallClock({ date: () => Math.floor(now.wall), monotonic: () => now.monotonic }),
    pass(ms: number) {
      now.wall += ms;
      now.monotonic += ms;
    },
    step(ms: number) {
      now.wall += ms;
    },
    now,
  };
}

describe("the wall clock", () => {
  it("is never a millisecond off, and soon much less", () => {
    const { clock, pass, now } = host();
    expect(Math.abs(clock() - now.wall)).toBeLessThan(1);
    for (let i = 0; i < 100; i++) {
      pass(0.37);
      expect(Math.abs(clock() - now.wall)).toBeLessThan(1);
    }
    expect(Math.abs(clock() - now.wall)).toBeLessThan(0.1);
  });

  it.for([
    ["forward, as by NTP or by the host's waking up", 3_600_000],
    ["back", -3_600_000],
    ["by little", -3.5],
  ] as const)("follows at once when the host's is set %s", ([, ms]) => {
    const { clock, pass, step, now } = host();
    clock();
    pass(10);
    step(ms);
    expect(Math.abs(clock() - now.wall)).toBeLessThanOrEqual(1);
    pass(10);
    expect(Math.abs(clock() - now.wall)).toBeLessThanOrEqual(1);
  });

  it("is that of Date", () => {
    const clock = createWallClock();
    for (let i = 0; i < 1000; i++) {
      const before = Date.now();
      const read = clock();
      expect(read).toBeGreaterThanOrEqual(before);
      expect(read).toBeLessThanOrEqual(Date.now() + 1);
    }
  });
});
