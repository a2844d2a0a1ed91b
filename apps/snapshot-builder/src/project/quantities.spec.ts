import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatBytes, parseBytes, parseDurationMs } from "./quantities.ts";

describe("sizes", () => {
  it("read back as what they were written from", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        expect(parseBytes(formatBytes(bytes))).toBe(bytes);
      }),
    );
  });

  it.each([
    ["4096", 4096],
    ["1k", 1024],
    ["1kB", 1000],
    ["1.5GiB", 1.5 * 1024 ** 3],
    ["512 MiB", 512 * 1024 ** 2],
    ["1.0001KiB", undefined],
    ["-1", undefined],
    ["1 apple", undefined],
    ["", undefined],
  ])("%j is %j bytes", (text, bytes) => expect(parseBytes(text)).toBe(bytes));
});

describe("durations", () => {
  it("add up their parts", () => {
    fc.assert(
      fc.property(fc.nat(99), fc.nat(59), fc.nat(59), fc.nat(999), (h, m, s, ms) => {
        expect(parseDurationMs(`${h}h${m}m${s}s${ms}ms`)).toBe(((h * 60 + m) * 60 + s) * 1000 + ms);
      }),
    );
  });

  it.each([["90"], ["s"], ["1d"], ["-5s"], [""]])("%j is none", (text) => {
    expect(parseDurationMs(text)).toBeUndefined();
  });
});
