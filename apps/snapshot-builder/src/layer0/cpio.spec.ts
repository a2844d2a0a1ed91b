import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CpioEntry, writeCpio } from "./cpio.ts";

const name = fc.stringMatching(/^[a-z0-9._-]{1,12}$/).filter((one) => !/^\.+$/.test(one));
const entries = fc
  .uniqueArray(
    fc.record({ name, content: fc.uint8Array({ maxLength: 300 }), mode: fc.constantFrom(0o644, 0o755) }),
    {
      selector: (one) => one.name,
      maxLength: 12,
    },
  )
  .map((files) =>
    files.map(
      (one): CpioEntry => ({ path: `d/${one.name}`, type: "file", content: one.content, mode: one.mode }),
    ),
  );

describe("a cpio archive", () => {
  it("does not depend on the order in which its entries are given", () => {
    fc.assert(
      fc.property(entries, (files) => {
        expect(Buffer.compare(writeCpio(files), writeCpio([...files].reverse()))).toBe(0);
      }),
    );
  });

  it("is aligned to words and lists every file and each parent directory once", () => {
    fc.assert(
      fc.property(entries, (files) => {
        const archive = writeCpio(files);
        expect(archive.length % 4).toBe(0);
        const listed = execFileSync("cpio", ["-t", "--quiet"], { input: archive })
          .toString()
          .split("\n")
          .filter(Boolean);
        expect(listed).toEqual([...new Set(files.flatMap(({ path }) => ["d", path]))].sort());
      }),
      { numRuns: 20 },
    );
  });

  it("unpacks to the same content, modes and links", () => {
    const directory = mkdtempSync(join(tmpdir(), "sporelet-cpio-"));
    try {
      const archive = writeCpio([
        { path: "bin/tool", type: "file", content: Buffer.from("abc"), mode: 0o755 },
        { path: "bin/link", type: "symlink", target: "/bin/tool" },
        { path: "tmp", type: "directory", mode: 0o1777 },
      ]);
      execFileSync("cpio", ["-i", "-d", "--quiet"], { input: archive, cwd: directory });
      expect(readFileSync(join(directory, "bin/tool"), "utf8")).toBe("abc");
      expect(statSync(join(directory, "bin/tool")).mode & 0o7777).toBe(0o755);
      expect(statSync(join(directory, "tmp")).mode & 0o7777).toBe(0o1777);
      expect(readlinkSync(join(directory, "bin/link"))).toBe("/bin/tool");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("refuses the same path twice", () => {
    const file: CpioEntry = { path: "a", type: "file", content: new Uint8Array() };
    expect(() => writeCpio([file, file])).toThrow("a is there twice");
  });
});
