import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { normalizeReference, parseReference, type Reference } from "./reference.ts";
import { resolveReference } from "./resolve.ts";

const word = fc.stringMatching(/^[a-z0-9]{1,6}$/);
const part = fc
  .tuple(word, fc.array(fc.tuple(fc.constantFrom(".", "_", "-", "__"), word), { maxLength: 2 }))
  .map(([first, rest]) => first + rest.map(([glue, next]) => glue + next).join(""));
const name = fc
  .array(part, { minLength: 1, maxLength: 3 })
  .map((parts) => parts.join("/"))
  .filter((text) => text !== "sha256");
/** Names of which the first part is no registry. */
const localName = name.filter((text) => !/^([^/]*\.[^/]*|localhost)\//.test(text));
const tag = fc.stringMatching(/^[a-z0-9_][a-z0-9._-]{0,10}$/);

describe("references", () => {
  it("are read as they were written, and are their own normal form", () => {
    fc.assert(
      fc.property(localName, tag, (n, t) => {
        expect(parseReference(`${n}:${t}`)).toEqual({ name: n, tag: t });
        expect(parseReference(n)).toEqual({ name: n, tag: "latest" });
        expect(normalizeReference(normalizeReference(n))).toBe(`${n}:latest`);
      }),
    );
  });

  it.each([
    ["registry.example/shop/api:2", "registry.example", "registry.example/shop/api", "2"],
    ["localhost/demo", "localhost", "localhost/demo", "latest"],
    ["localhost:5000/demo", "localhost:5000", "localhost:5000/demo", "latest"],
    ["Registry.Example:443/a/b:V1.0-RC", "registry.example:443", "registry.example:443/a/b", "V1.0-RC"],
    ["127.0.0.1:5000/a:b", "127.0.0.1:5000", "127.0.0.1:5000/a", "b"],
    ["[::1]:5000/a", "[::1]:5000", "[::1]:5000/a", "latest"],
  ])("such as %s name a place in a registry", (text, registry, name, tag) => {
    expect(parseReference(text)).toEqual({ registry, name, tag });
    expect(normalizeReference(normalizeReference(text))).toBe(`${name}:${tag}`);
  });

  it.each([
    "localhost:99999/a",
    "localhost:/a",
    "localhost/",
    "host.example//a",
    "host.example/../a",
    "host.example/A",
    "host.example/a:.b",
    "../a",
    "user@host.example/a",
    `host.example/${"a".repeat(250)}`,
  ])("such as %s name no place in a registry", (text) => {
    expect(() => parseReference(text)).toThrow(SporeletError);
  });

  it("of any other form are refused, never misread", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."aZ9:/._-\\ \n\0é@+") }), (text) => {
        let reference: Reference;
        try {
          reference = parseReference(text);
        } catch (error) {
          expect((error as SporeletError).code).toBe("invalid_argument");
          return;
        }
        const { name, tag, registry } = reference;
        const written = registry === undefined ? text : registry + text.slice(registry.length);
        expect([`${name}:${tag}`, name]).toContain(written);
        if (registry !== undefined) expect(text.slice(0, registry.length).toLowerCase()).toBe(registry);
        const parts = name.split("/").slice(registry === undefined ? 0 : 1);
        expect(parts.length).toBeGreaterThan(0);
        expect(parts.every((item) => /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/.test(item))).toBe(true);
        expect(`${name}${tag}`).not.toContain("..".repeat(2));
      }),
    );
  });

  it("longer than 128 characters are refused", () => {
    expect(() => parseReference("a".repeat(129))).toThrow(SporeletError);
    expect(() => parseReference(`a:${"b".repeat(129)}`)).toThrow(SporeletError);
    expect(parseReference(`${"a".repeat(128)}:${"b".repeat(128)}`).tag).toHaveLength(128);
  });
});

describe("resolving", () => {
  const digest = (digits: string) => `sha256:${digits.padEnd(64, "0")}` as const;
  const [one, two] = [digest("0123456789abc"), digest("0123456789abd")];

  it("takes the beginning of a digest when only one begins so", () => {
    expect(resolveReference("0123456789abc", new Map(), [one, two])).toEqual({ digest: one });
    expect(() => resolveReference("0123456789ab", new Map(), [one, two])).toThrow(/2 snapshots begin/);
    expect(() => resolveReference("0123456789a", new Map(), [one, two])).toThrow(/none with this name/);
  });

  it("prefers a name to a digest that begins so", () => {
    const tags = new Map([["0123456789abc:latest", two]]);
    expect(resolveReference("0123456789abc", tags, [one, two])).toEqual({
      digest: two,
      tag: "0123456789abc:latest",
    });
  });
});
