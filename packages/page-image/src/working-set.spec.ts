import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import fc from "fast-check";
import { expect, it } from "vitest";
import { encodeWorkingSet, parseWorkingSet, readWorkingSet, type TouchedRun } from "./working-set.ts";

const touches = fc.array(
  fc.record({
    image: fc.constantFrom("memory" as const, "disk" as const),
    page: fc.oneof(fc.nat(200), fc.nat(2 ** 32 - 200)),
    count: fc.integer({ min: 1, max: 100 }),
  }),
  { maxLength: 60 },
);

/** Each page once, in the order of the first touch. */
function pagesOf(runs: readonly TouchedRun[]): string[] {
  const pages = runs.flatMap(({ image, page, count }) =>
    Array.from({ length: count }, (_, n) => `${image} ${page + n}`),
  );
  return [...new Set(pages)];
}

it("keeps the order of first touches, and names each page once", () => {
  fc.assert(
    fc.property(touches, (runs) => {
      const parsed = parseWorkingSet(encodeWorkingSet(runs));
      expect(pagesOf(parsed)).toEqual(pagesOf(runs));
      expect(parsed.reduce((sum, { count }) => sum + count, 0)).toBe(pagesOf(runs).length);
    }),
  );
});

it("is not read from a file of gigabytes", async () => {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "workingset");
  await writeFile(file, encodeWorkingSet([{ image: "memory", page: 7, count: 2 }]));
  expect(await readWorkingSet(file)).toEqual([{ image: "memory", page: 7, count: 2 }]);
  await truncate(file, 3 * 2 ** 30);
  await expect(readWorkingSet(file)).rejects.toMatchObject({ code: "corrupt", subject: file });
});

it("is the same after a second encoding", () => {
  fc.assert(
    fc.property(touches, (runs) => {
      const bytes = encodeWorkingSet(runs);
      expect(encodeWorkingSet(parseWorkingSet(bytes)).equals(bytes)).toBe(true);
    }),
  );
});

it("is what its specification shows", () => {
  const runs: TouchedRun[] = [
    { image: "memory", page: 256, count: 2 },
    { image: "memory", page: 100, count: 1 },
    { image: "disk", page: 3, count: 8 },
  ];
  // docs/formats/working-set.md, "Example".
  const hex = "53504f5245575331" + "03" + "028004" + "00bb02" + "0f06";
  expect(encodeWorkingSet(runs).toString("hex")).toBe(hex);
  expect(parseWorkingSet(Buffer.from(hex, "hex"))).toEqual(runs);
});

it("refuses damaged bytes with an error that says so, and nothing else", () => {
  const valid = encodeWorkingSet([
    { image: "memory", page: 5, count: 3 },
    { image: "disk", page: 70_000, count: 1 },
  ]);
  const damaged = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.nat(valid.length - 1).map((length) => valid.subarray(0, length)),
    fc.tuple(fc.nat(valid.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, bits]) => {
      const copy = Buffer.from(valid);
      copy[at] = (copy[at] ?? 0) ^ bits;
      return copy;
    }),
  );
  fc.assert(
    fc.property(damaged, (bytes) => {
      try {
        const runs = parseWorkingSet(Buffer.from(bytes));
        expect(runs.every(({ page, count }) => page >= 0 && count > 0)).toBe(true);
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/^(corrupt|incompatible)$/) });
      }
    }),
  );
});

it.each([
  ["a later version", "53504f524557533200", "incompatible"],
  ["more runs than there are bytes", "53504f5245575331ffffff01", "corrupt"],
  ["a run of more pages than a working set has", `53504f524557533101${"feffffff1f"}00`, "corrupt"],
  ["a page before the first", "53504f524557533101000300", "corrupt"],
  ["bytes behind its end", "53504f52455753310000", "corrupt"],
])("refuses %s", (_, hex, code) => {
  expect(() => parseWorkingSet(Buffer.from(hex, "hex"))).toThrow(expect.objectContaining({ code }));
});
