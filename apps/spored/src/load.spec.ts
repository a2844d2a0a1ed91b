import fc from "fast-check";
import { expect, it } from "vitest";
import { type LoadSample, sampleLoad, worksByItself } from "./load.ts";

/** A limit of a control group: the share of each period in which the process may run. */
const periodMs = 100;

/** A process of one thread as it is at an instant, when it has wanted to run ever since instant 0. */
function throttled(share: number, atMs: number): Pick<LoadSample, "usedMs" | "waitedMs"> {
  const runsMs = share * periodMs;
  const periods = Math.floor(atMs / periodMs);
  return {
    usedMs: periods * runsMs + Math.min(atMs - periods * periodMs, runsMs),
    // The wait that goes on counts when it is over.
    waitedMs: new Map([["1", periods * (periodMs - runsMs)]]),
  };
}

const sample = (load: Pick<LoadSample, "usedMs" | "waitedMs">, begunAt: number, endedAt = begunAt) => ({
  ...load,
  begunAt,
  endedAt,
});
const still = (usedMs: number, waitedMs: number) => ({ usedMs, waitedMs: new Map([["1", waitedMs]]) });

it("a guest that always wants to run works, whatever its limit and whenever it is looked at", () => {
  const lateness = fc.double({ min: 0, max: 500, noNaN: true });
  fc.assert(
    fc.property(
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      fc.double({ min: 0, max: periodMs, noNaN: true }),
      fc.double({ min: 1000, max: 10_000, noNaN: true }),
      fc.tuple(lateness, lateness, lateness, lateness),
      (share, beganMs, elapsedMs, [a, b, c, d]) => {
        // Each sample is true of some instant between its beginning and its end.
        const first = beganMs + a;
        const second = first + b + elapsedMs + c;
        const before = sample(throttled(share, first), first - a, first + b);
        const now = sample(throttled(share, second), second - c, second + d);
        expect(worksByItself(before, now)).toBe(true);
      },
    ),
  );
});

it("a guest at rest does not, and has some room for its timers", () => {
  expect(worksByItself(sample(still(500, 300), 0, 5), sample(still(500, 300), 1000, 1020))).toBe(false);
  expect(worksByItself(sample(still(500, 300), 0, 5), sample(still(1010, 300), 1000, 1020))).toBe(true);
  expect(worksByItself(sample(still(500, 300), 0, 5), sample(still(800, 600), 1100, 1120))).toBe(false);
});

it("half of a core is work without any wait", () => {
  expect(worksByItself(sample(still(0, 0), 0), sample(still(499, 0), 1000))).toBe(false);
  expect(worksByItself(sample(still(0, 0), 0), sample(still(501, 0), 1000))).toBe(true);
});

it("the waits of threads that have ended are not taken back", () => {
  const before = sample(
    {
      usedMs: 0,
      waitedMs: new Map([
        ["1", 0],
        ["2", 5000],
      ]),
    },
    0,
  );
  const now = sample(
    {
      usedMs: 0,
      waitedMs: new Map([
        ["1", 900],
        ["3", 50],
      ]),
    },
    1000,
  );
  expect(worksByItself(before, now)).toBe(true);
});

it("is told of a real process", async () => {
  const before = await sampleLoad(process.pid);
  const end = process.cpuUsage().user + 100_000;
  while (process.cpuUsage().user < end);
  const now = await sampleLoad(process.pid);
  expect(now.usedMs - before.usedMs).toBeGreaterThan(50);
  expect(now.endedAt).toBeGreaterThanOrEqual(now.begunAt);
  expect([...now.waitedMs.keys()]).toContain(String(process.pid));
});
