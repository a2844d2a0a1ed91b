import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { expect, it } from "vitest";
import { parseConfig } from "./parse-config.ts";
import { description } from "./testing/snapshot.ts";

const record = { digest: `sha256:${"0".repeat(64)}`, sizeBytes: 1, usedBytes: 1 };
const config = {
  ...description,
  formatVersion: 2,
  created: "2026-01-01T00:00:00.000Z",
  files: { memory: record, vmstate: record, disk: record },
};

/** Paths of all values in an object, as lists of keys. */
function pathsIn(value: unknown): string[][] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    [key],
    ...pathsIn(inner).map((path) => [key, ...path]),
  ]);
}

function withValue(value: unknown, [key, ...rest]: string[], replacement: unknown): unknown {
  if (key === undefined) return replacement;
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) };
  const fields = copy as Record<string, unknown>;
  fields[key] = withValue(fields[key], rest, replacement);
  return copy;
}

it("keeps what it does not know, as later versions may add to a config", () => {
  const later = { ...config, sometime: { a: 1 }, vmm: { ...config.vmm, more: true } };
  expect(parseConfig(JSON.stringify(later), "later")).toEqual(later);
});

it("reads or refuses whatever is put in the place of whatever value, and never believes a wrong type", () => {
  fc.assert(
    fc.property(fc.constantFrom(...pathsIn(config)), fc.jsonValue(), (path, replacement) => {
      const text = JSON.stringify(withValue(config, path, replacement));
      let parsed: ReturnType<typeof parseConfig>;
      try {
        parsed = parseConfig(text, "damaged");
      } catch (error) {
        expect(error).toBeInstanceOf(SporeletError);
        expect(["corrupt", "incompatible"]).toContain((error as SporeletError).code);
        return;
      }
      expect(Number.isSafeInteger(parsed.shape.memoryBytes)).toBe(true);
      expect(parsed.kernel.arguments.every((argument) => typeof argument === "string")).toBe(true);
      for (const { digest, sizeBytes } of Object.values(parsed.files)) {
        expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
        expect(sizeBytes).toBeGreaterThanOrEqual(0);
      }
    }),
    { numRuns: 500 },
  );
});

it("refuses any text that is no config", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      expect(() => parseConfig(text, "anything")).toThrow(SporeletError);
    }),
  );
});
