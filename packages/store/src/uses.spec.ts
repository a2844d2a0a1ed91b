import { describe, expect, it } from "vitest";
import { createUses } from "./uses.ts";

const place = "/nonexistent/sporelet-test";

/** Uses under a clock that the test moves. */
function withClock() {
  const clock = { ms: 1000 };
  return { clock, uses: createUses(() => clock.ms) };
}

describe("a lease", () => {
  it("keeps a thing until it is disposed of, however old the thing is", () => {
    const { uses } = withClock();
    const lease = uses.lease("a", "run");
    expect(uses.holdersOf("a")).toEqual(["run"]);
    expect(uses.beginRemoval("a")).toBeUndefined();
    lease[Symbol.dispose]();
    expect(uses.holdersOf("a")).toEqual([]);
    expect(uses.beginRemoval("a")).toBeDefined();
  });

  it("keeps what was used since it began, and nothing older", () => {
    const { clock, uses } = withClock();
    using _ = uses.lease(undefined, "build");
    expect(uses.holdersOf("old", 999)).toEqual([]);
    expect(uses.holdersOf("new", 1000)).toEqual(["build"]);
    clock.ms = 2000;
    uses.touch("old", place);
    // The collector may have read the time of change before that.
    expect(uses.beginRemoval("old", { lastUsedMs: 999 })).toBeUndefined();
    // Who removes a thing on purpose only has to respect those that named it.
    expect(uses.holdersOf("old")).toEqual([]);
    expect(uses.beginRemoval("old")).toBeDefined();
  });

  it("keeps what was used since it began when the clock is set back, and nothing older", () => {
    const { clock, uses } = withClock();
    uses.touch("before", place);
    using _ = uses.lease(undefined, "pull");
    clock.ms = 10;
    uses.touch("after", place);
    expect(uses.holdersOf("after", 10)).toEqual(["pull"]);
    expect(uses.beginRemoval("after", { lastUsedMs: 10 })).toBeUndefined();
    expect(uses.holdersOf("before", 10)).toEqual([]);
  });

  it("keeps what was used since it began though somebody began to remove it, and then did not", () => {
    const { clock, uses } = withClock();
    using _ = uses.lease(undefined, "pull");
    clock.ms = 10;
    uses.touch("a", place);
    uses.beginRemoval("a")?.[Symbol.dispose]();
    expect(uses.holdersOf("a", 10)).toEqual(["pull"]);
  });

  it("keeps nothing of what was used before it, by whomever", () => {
    const { uses } = withClock();
    const first = uses.lease(undefined, "pull");
    uses.touch("a", place);
    using _ = uses.lease(undefined, "push");
    expect(uses.holdersOf("a", 0)).toEqual(["pull"]);
    first[Symbol.dispose]();
    expect(uses.holdersOf("a", 0)).toEqual([]);
  });

  it("of several on one thing is enough", () => {
    const { uses } = withClock();
    using _one = uses.lease("a", "run");
    const two = uses.lease("a", "push");
    expect(uses.holdersOf("a")).toEqual(["run", "push"]);
    two[Symbol.dispose]();
    expect(uses.beginRemoval("a")).toBeUndefined();
    expect(uses.beginRemoval("a", { force: true })).toBeDefined();
  });
});

describe("a removal", () => {
  it("that has begun is not disturbed: who wants the thing waits or is told", async () => {
    const { uses } = withClock();
    const removal = uses.beginRemoval("a");
    expect(() => uses.lease("a", "run")).toThrow(/being removed/);
    expect(uses.beginRemoval("a")).toBeUndefined();
    let over = false;
    const waiting = uses.removed("a").then(() => {
      over = true;
    });
    await Promise.resolve();
    expect(over).toBe(false);
    removal?.[Symbol.dispose]();
    await waiting;
    using lease = uses.lease("a", "run");
    expect(lease.holder).toBe("run");
  });

  it("that has begun is no hindrance to who can get the thing from elsewhere", () => {
    const { uses } = withClock();
    using _removal = uses.beginRemoval("a");
    using _lease = uses.lease("a", "pull", { replaceable: true });
    expect(uses.holdersOf("a")).toEqual(["pull"]);
  });
});
