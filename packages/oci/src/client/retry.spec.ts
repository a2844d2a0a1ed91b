import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { settingsOf } from "./options.ts";
import { createAttempts, delayBefore, parseRetryAfter, Transient } from "./retry.ts";

const { retries: policy } = settingsOf({});
const context = { operation: "read the blob", subject: "registry.example/hello" };
const error = new SporeletError({ ...context, code: "unavailable", reason: "it is away" });

describe("the delay before another attempt", () => {
  it("is anything up to a bound that doubles, and never beyond the longest", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (failures, random) => {
          const delayMs = delayBefore(failures, 0, policy, random);
          expect(delayMs).toBeGreaterThanOrEqual(0);
          expect(delayMs).toBeLessThanOrEqual(Math.min(policy.longestDelayMs, 250 * 2 ** (failures - 1)));
        },
      ),
    );
  });

  it("is at least what the registry asks for", () => {
    expect(delayBefore(1, 7000, policy, 0)).toBe(7000);
    expect(delayBefore(1, 7000, policy, 0.5)).toBe(7125);
  });
});

describe("Retry-After", () => {
  const nowMs = Date.parse("2026-01-01T00:00:00Z");
  it.each([
    ["120", 120_000],
    [" 0 ", 0],
    ["Thu, 01 Jan 2026 00:00:30 GMT", 30_000],
    ["Wed, 31 Dec 2025 23:00:00 GMT", 0],
    ["soon", undefined],
    ["", undefined],
    [undefined, undefined],
  ])("%j means %j ms", (value, expected) => {
    expect(parseRetryAfter(value, nowMs)).toBe(expected);
  });
});

describe("attempts", () => {
  const quick = { ...policy, firstDelayMs: 0, longestRetryAfterMs: 0, attempts: 3 };
  const attemptsWith = (signal?: AbortSignal, changed = {}) => {
    const told: number[] = [];
    const options = { policy: { ...quick, ...changed }, context, signal };
    return {
      told,
      attempts: createAttempts({ ...options, onRetry: (_, { failures }) => told.push(failures) }),
    };
  };

  it("end with the last error when they are used up", async () => {
    const { told, attempts } = attemptsWith();
    await expect(attempts.run(() => Promise.reject(new Transient(error)))).rejects.toBe(error);
    expect(told).toEqual([1, 2]);
  });

  it("begin anew with each progress", async () => {
    const { attempts } = attemptsWith();
    let calls = 0;
    const result = await attempts.run(async () => {
      if (++calls % 2 === 0) attempts.progressed();
      if (calls < 10) throw new Transient(error);
      return calls;
    });
    expect(result).toBe(10);
  });

  it("end at once with an error that another attempt would not change", async () => {
    const { told, attempts } = attemptsWith();
    await expect(attempts.run(() => Promise.reject(error))).rejects.toBe(error);
    await expect(attempts.run(() => Promise.reject(new TypeError("a defect")))).rejects.toMatchObject({
      code: "internal",
      ...context,
    });
    expect(told).toEqual([]);
  });

  it("do not begin after the deadline", async () => {
    const { told, attempts } = attemptsWith(undefined, { deadlineMs: -1 });
    await expect(attempts.run(() => Promise.reject(new Transient(error)))).rejects.toBe(error);
    expect(told).toEqual([]);
  });

  it.each([
    ["more patience than there is", 3_600_000, { longestRetryAfterMs: 60_000 }, "60 min"],
    ["a moment after the deadline", 10_000, { longestRetryAfterMs: 60_000, deadlineMs: 50 }, "10 s"],
  ])("do not begin sooner than the registry wants, which is %s", async (_, retryAfterMs, changed, wait) => {
    const { told, attempts } = attemptsWith(undefined, changed);
    const run = attempts.run(() => Promise.reject(new Transient(error, retryAfterMs)));
    await expect(run).rejects.toMatchObject({
      code: "unavailable",
      ...context,
      reason: `it is away; it asks to wait ${wait} before the next attempt`,
      hint: `try again in ${wait}`,
    });
    expect(told).toEqual([]);
  });

  it("are cut short while they wait", async () => {
    const controller = new AbortController();
    const { attempts } = attemptsWith(controller.signal, { longestRetryAfterMs: 60_000 });
    const run = attempts.run(async () => {
      setImmediate(() => controller.abort());
      throw new Transient(error, 50_000);
    });
    await expect(run).rejects.toMatchObject({ code: "cancelled", ...context });
  });
});
