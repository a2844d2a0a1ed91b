import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { UsageError } from "../cli/usage.ts";
import { parseEndpoint } from "./endpoint.ts";
import { entryRenamer } from "./names.ts";
import { type CopySource, type CopyTarget, type Kind, planCopy } from "./plan.ts";

const source = (file: string, kind: Kind): CopySource => ({
  path: file,
  kind,
  base: path.posix.basename(path.posix.resolve("/cwd", file)),
});
const target = (file: string, kind: Kind, parentKind: Kind = "directory"): CopyTarget => ({
  path: file,
  kind,
  parentKind,
});

describe("a copy", () => {
  it.each([
    [
      "a file into a directory",
      source("a.txt", "file"),
      target("/d", "directory"),
      { directory: "target", name: "a.txt" },
    ],
    [
      "a file over a file",
      source("a.txt", "file"),
      target("/d/b.txt", "file"),
      { directory: "parent", name: "b.txt" },
    ],
    [
      "a file to a new name",
      source("a.txt", "file"),
      target("/d/b.txt", "missing"),
      { directory: "parent", name: "b.txt" },
    ],
    [
      "a directory into a directory",
      source("app", "directory"),
      target("/d", "directory"),
      { directory: "target", name: "app" },
    ],
    [
      "a directory to a new name",
      source("app", "directory"),
      target("/d/new", "missing"),
      { directory: "parent", name: "new" },
    ],
    [
      "a directory to a new name with a slash",
      source("app/", "directory"),
      target("/d/new/", "missing"),
      { directory: "parent", name: "new" },
    ],
    [
      "the contents of a directory",
      source("app/.", "directory"),
      target("/d", "directory"),
      { directory: "target", name: undefined },
    ],
    [
      "the contents to a new name",
      source("app/.", "directory"),
      target("/d/new", "missing"),
      { directory: "parent", name: "new" },
    ],
    [
      "the working directory's contents",
      source(".", "directory"),
      target("/d", "directory"),
      { directory: "target", name: undefined },
    ],
    [
      "the directory above",
      source("..", "directory"),
      target("/d", "directory"),
      { directory: "target", name: undefined },
    ],
    [
      "the root",
      source("/", "directory"),
      target("/d", "directory"),
      { directory: "target", name: undefined },
    ],
  ])("of %s", (_what, from, to, plan) => expect(planCopy(from, to)).toEqual(plan));

  it.each([
    ["what does not exist", source("a", "missing"), target("/d", "directory"), "not_found"],
    ["a file named as a directory", source("a/", "file"), target("/d", "directory"), "failed_precondition"],
    ["a directory over a file", source("app", "directory"), target("/d/f", "file"), "failed_precondition"],
    ["a file over a file with a slash", source("a", "file"), target("/d/f/", "file"), "failed_precondition"],
    [
      "a file into a directory that is not there",
      source("a", "file"),
      target("/d/new/", "missing"),
      "not_found",
    ],
    [
      "anything below what is not there",
      source("a", "file"),
      target("/no/b", "missing", "missing"),
      "not_found",
    ],
    ["anything below a file", source("a", "file"), target("/f/b", "missing", "file"), "not_found"],
  ])("of %s is refused", (_what, from, to, code) => {
    expect(() => planCopy(from, to)).toThrow(expect.objectContaining({ code }));
  });
});

const part = fc.stringMatching(/^[a-z. -]{1,6}$/).filter((text) => text.trim() !== "" && !/^\.+$/.test(text));
const parts = fc.array(part, { maxLength: 4 });

describe("names in a tar", () => {
  it("keep their tree under the new name, whatever the root is called", () => {
    fc.assert(
      fc.property(
        parts,
        fc.array(parts, { minLength: 1 }),
        fc.option(part, { nil: undefined }),
        (root, entries, name) => {
          const rename = entryRenamer(name);
          expect(rename(`./${root.join("/")}/`)).toBe(name);
          for (const entry of entries) {
            const expected = [...(name === undefined ? [] : [name]), ...entry].join("/");
            expect(rename([...root, ...entry].join("/"))).toBe(expected === "" ? undefined : expected);
          }
        },
      ),
    );
  });

  it("never lead out of the tree: such a tar is refused", () => {
    const hostile = fc.array(fc.constantFrom("..", ".", "a", "root", "", "etc"), { minLength: 1 });
    fc.assert(
      fc.property(fc.array(hostile), fc.boolean(), (entries, contentsOnly) => {
        const rename = entryRenamer(contentsOnly ? undefined : "root");
        try {
          for (const entry of entries) {
            const renamed = rename(entry.join("/"));
            if (renamed === undefined) continue;
            expect(path.posix.resolve("/target", renamed)).toMatch(
              contentsOnly ? /^\/target\/./ : /^\/target\/root(\/|$)/,
            );
          }
        } catch (error) {
          expect(error).toBeInstanceOf(SporeletError);
        }
      }),
    );
  });
});

describe("an argument of cp", () => {
  it.each([
    ["-", { kind: "stream" }],
    ["a.txt", { kind: "local", path: "a.txt" }],
    ["./a:b", { kind: "local", path: "./a:b" }],
    ["/a:b", { kind: "local", path: "/a:b" }],
    ["d/a:b", { kind: "local", path: "d/a:b" }],
    [":x", { kind: "local", path: ":x" }],
    ["m:/etc/.", { kind: "guest", machine: "m", path: "/etc/." }],
    ["m:etc", { kind: "guest", machine: "m", path: "/etc" }],
    ["m:a:b", { kind: "guest", machine: "m", path: "/a:b" }],
  ])("%s", (text, endpoint) => expect(parseEndpoint(text)).toEqual(endpoint));

  it("needs a path", () => {
    expect(() => parseEndpoint("m:")).toThrow(UsageError);
    expect(() => parseEndpoint("")).toThrow(UsageError);
  });
});
