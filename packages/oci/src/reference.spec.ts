import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatImageReference, parseImageReference } from "./reference.ts";

const hex = "a".repeat(64);

describe("parseImageReference", () => {
  it.each([
    ["registry.example/hello", { registry: "registry.example", repository: "hello" }],
    ["localhost:5000/team/hello:1", { registry: "localhost:5000", repository: "team/hello", tag: "1" }],
    ["localhost/hello:Tag", { registry: "localhost", repository: "hello", tag: "Tag" }],
    ["[::1]:5000/hello", { registry: "[::1]:5000", repository: "hello" }],
    [`r.io/a__b/c--d@sha256:${hex}`, { registry: "r.io", repository: "a__b/c--d", digest: `sha256:${hex}` }],
    [`r.io/a:1@sha256:${hex}`, { registry: "r.io", repository: "a", tag: "1", digest: `sha256:${hex}` }],
  ])("reads %s, and writes it again", (text, parts) => {
    expect(parseImageReference(text)).toEqual(parts);
    expect(formatImageReference(parseImageReference(text))).toBe(text);
  });

  it.each([
    ["hello:1", "it names no registry"],
    ["team/hello:1", '"team" is not a registry\'s host'],
    ["https://registry.example/hello", "it is a URL"],
    ["registry.example/", "it names no repository"],
    ["registry.example/Hello", "repositories are lower-case"],
    ["registry.example/a/../b", "repositories are lower-case"],
    ["registry.example//b", "repositories are lower-case"],
    ["registry.example/a:b:c", "it has more than one tag"],
    ["registry.example/a:", "tags are at most 128"],
    ["registry.example/a@sha256:12", "its digest is not"],
    ["registry.example/a@sha512:12", "its digest is not"],
    ["registry.example:99999/a", "is not a registry's host"],
    ["user@registry.example/a", "is not a registry's host"],
    ["registry.example\r\nX: y/a", "is not a registry's host"],
    [`registry.example/${"a".repeat(300)}`, "its name has more than 255 characters"],
  ])("refuses %j", (text, reason) => {
    expect(() => parseImageReference(text)).toThrow(reason);
    expect(() => parseImageReference(text)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });

  it("never lets anything through that changes the address it becomes part of", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (host, path) => {
        try {
          const { registry, repository, tag = "x" } = parseImageReference(`${host}/${path}`);
          const url = new URL(`https://${registry}/v2/${repository}/manifests/${tag}`);
          expect(url.pathname).toBe(`/v2/${repository}/manifests/${tag}`);
          expect(url.username + url.search + url.hash).toBe("");
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_argument" });
        }
      }),
    );
  });
});
