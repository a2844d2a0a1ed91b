import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseAge, parseRate, parseSize } from "./amounts.ts";
import { UsageError } from "./usage.ts";

const day = 86_400_000;

describe("an age", () => {
  it.each([
    ["7d", 7 * day],
    ["2w", 14 * day],
    ["1d12h", 1.5 * day],
    ["1.5d", 1.5 * day],
    ["90s", 90_000],
    ["365d", 365 * day],
  ])("%s is %d ms", (text, ms) => expect(parseAge(text)).toBe(ms));

  it.each(["", "d", "7", "7 d", "-7d", "7days", "7d!", "0d", `${"9".repeat(40)}w`])("is not %j", (text) => {
    expect(() => parseAge(text)).toThrow(UsageError);
  });
});

describe("a size", () => {
  it.each([
    ["20GiB", 20 * 1024 ** 3],
    ["20G", 20 * 1024 ** 3],
    ["20GB", 20e9],
    ["1.5 TiB", 1.5 * 1024 ** 4],
    ["500mib", 500 * 1024 ** 2],
    ["4096", 4096],
    ["4096B", 4096],
  ])("%s is %d bytes", (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(["", "GiB", "0", "-1G", "1 2G", "1iB", "1XiB", "1GiBs", "1e9", "0.1", "9999999PiB"])(
    "is not %j",
    (text) => {
      expect(() => parseSize(text)).toThrow(UsageError);
    },
  );

  it("is read or refused, whatever is given", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."0123456789.KMGTiB ") }), (text) => {
        try {
          expect(parseSize(text)).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
        }
      }),
    );
  });
});

describe("a rate", () => {
  it("is a size per second, said or not", () => {
    expect(parseRate("20MiB")).toBe(20 * 1024 ** 2);
    expect(parseRate("20MB/s")).toBe(20e6);
    for (const text of ["fast", "/s", "20MiB/m"]) expect(() => parseRate(text)).toThrow(UsageError);
  });
});
