import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nearest } from "./nearest.ts";

describe("nearest", () => {
  it("finds what a slip of the finger meant, nearest first", () => {
    expect(nearest("helo", ["world", "hello", "help", "held-up"])).toEqual(["hello", "help"]);
  });

  it("finds what was begun", () => {
    expect(nearest("snap", ["snapshot", "stop"])).toEqual(["snapshot"]);
  });

  it("offers nothing where nothing is near", () => {
    expect(nearest("zebra", ["run", "build"])).toEqual([]);
  });

  it("offers an existing name for itself, and never more than asked for", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1 }), { minLength: 1 }), fc.nat(), (names, pick) => {
        const name = names[pick % names.length] ?? "";
        const found = nearest(name, names, 2);
        expect(found).toContain(name);
        expect(found.length).toBeLessThanOrEqual(2);
      }),
    );
  });
});
