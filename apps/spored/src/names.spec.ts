import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cloneNames } from "./names.ts";

const free = () => false;

describe("names of machines", () => {
  it("are made up where none is given, all different and fit for a hostname", () => {
    const names = cloneNames("", 200, free);
    expect(new Set(names).size).toBe(200);
    for (const name of names) expect(name).toMatch(/^[a-z]+-[a-z]+(-\d+)?$/);
  });

  it("are found even when all pairs are taken", () => {
    expect(cloneNames("", 1, (name) => !/\d/.test(name))[0]).toMatch(/-\d+$/);
  });

  it("are counted up for several clones", () => {
    expect(cloneNames("web", 1, free)).toEqual(["web"]);
    expect(cloneNames("web", 3, free)).toEqual(["web-1", "web-2", "web-3"]);
  });

  it("are refused when one of them is taken", () => {
    expect(() => cloneNames("web", 3, (name) => name === "web-2")).toThrow(
      expect.objectContaining({ code: "already_exists", subject: "web-2" }),
    );
  });

  it("are refused when they are no hostname, whatever the number of clones", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.integer({ min: 1, max: 12 }), (name, count) => {
        try {
          for (const each of cloneNames(name, count, free)) {
            expect(each).toMatch(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/);
            expect(each.length).toBeLessThanOrEqual(63);
          }
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_argument" });
        }
      }),
    );
    expect(() => cloneNames("x".repeat(63), 2, free)).toThrow(
      expect.objectContaining({ code: "invalid_argument" }),
    );
  });
});
