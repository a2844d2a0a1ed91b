import { mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mountXfs, temporaryDirectory, whyNoMounts } from "../testing/index.ts";
import { writeFileAtomic } from "./atomic.ts";
import { allocatedBytes, cloneFile, copySparse, punchZeroPages } from "./copy.ts";
import { dataExtents } from "./extents.ts";
import { nonZeroRuns, pageBytes } from "./pages.ts";

const MiB = 1024 * 1024;

/** A file of `pages` pages of which those named are filled with a byte; the rest are holes. */
async function sparseFile(path: string, pages: number, filled: Record<number, number>): Promise<void> {
  await using handle = await open(path, "wx");
  await handle.truncate(pages * pageBytes);
  for (const [page, byte] of Object.entries(filled)) {
    await handle.write(Buffer.alloc(pageBytes, byte), 0, pageBytes, Number(page) * pageBytes);
  }
}

describe("nonZeroRuns", () => {
  it("finds exactly the pages that hold something", () => {
    const scenario = fc.record({
      pages: fc.array(fc.option(fc.nat(pageBytes - 1), { freq: 3 }), { minLength: 1, maxLength: 60 }),
      cut: fc.nat(pageBytes - 1),
    });
    fc.assert(
      fc.property(scenario, ({ pages, cut }) => {
        const buffer = Buffer.alloc(pages.length * pageBytes);
        const length = buffer.length - cut;
        pages.forEach((at, page) => {
          if (at !== null) buffer[page * pageBytes + at] = 1;
        });
        const runs = nonZeroRuns(buffer, length);
        const found = new Set<number>();
        for (const run of runs) {
          expect(run.offset % pageBytes).toBe(0);
          for (let at = run.offset; at < run.offset + run.length; at += pageBytes) found.add(at / pageBytes);
        }
        const expected = pages.flatMap((at, page) =>
          at !== null && page * pageBytes + at < length ? [page] : [],
        );
        expect([...found]).toEqual(expected);
        expect(
          runs.every(
            (run, i) => i === 0 || run.offset > (runs[i - 1]?.offset ?? 0) + (runs[i - 1]?.length ?? 0),
          ),
        ).toBe(true);
        const last = runs.at(-1);
        expect(last === undefined || last.offset + last.length <= length).toBe(true);
      }),
    );
  });

  it("looks through a gibibyte of zeros in a blink", () => {
    const zeros = Buffer.alloc(MiB);
    for (let i = 0; i < 1024; i++) expect(nonZeroRuns(zeros)).toHaveLength(0);
  });
});

describe("copies", () => {
  it("keep holes, and drop pages that are zero", async () => {
    await using directory = await temporaryDirectory();
    const [source, target] = [join(directory.path, "a"), join(directory.path, "b")];
    await sparseFile(source, 1024, { 0: 1, 5: 0, 6: 2, 1023: 3 });
    await copySparse(source, target);
    expect(Buffer.compare(await readFile(source), await readFile(target))).toBe(0);
    expect(await allocatedBytes(target)).toBe(3 * pageBytes);
    expect(await dataExtents(target)).toEqual([
      { offset: 0, length: pageBytes },
      { offset: 6 * pageBytes, length: pageBytes },
      { offset: 1023 * pageBytes, length: pageBytes },
    ]);
  });

  it("hold for files whose size is not a multiple of the page", async () => {
    await using directory = await temporaryDirectory();
    const [source, target] = [join(directory.path, "a"), join(directory.path, "b")];
    await writeFile(source, Buffer.alloc(3 * pageBytes + 17, "x"));
    await truncate(source, 5 * pageBytes + 1);
    await copySparse(source, target);
    expect(Buffer.compare(await readFile(source), await readFile(target))).toBe(0);
  });

  it("are refused where something exists, which stays as it was", async () => {
    await using directory = await temporaryDirectory();
    const [source, target] = [join(directory.path, "a"), join(directory.path, "b")];
    await writeFile(source, "new");
    await writeFile(target, "old");
    await expect(cloneFile(source, target)).rejects.toMatchObject({ code: "already_exists" });
    await expect(copySparse(source, target)).rejects.toMatchObject({ code: "already_exists" });
    expect(await readFile(target, "utf8")).toBe("old");
  });

  it("leave nothing when they are aborted", async () => {
    await using directory = await temporaryDirectory();
    const source = join(directory.path, "a");
    await writeFile(source, Buffer.alloc(MiB, 1));
    const copy = copySparse(source, join(directory.path, "b"), AbortSignal.abort());
    await expect(copy).rejects.toMatchObject({ code: "cancelled" });
    expect(await readdir(directory.path)).toEqual(["a"]);
  });

  it("fall back to a sparse copy where there are no reflinks", async () => {
    await using directory = await temporaryDirectory();
    const [source, target] = [join(directory.path, "a"), join("/dev/shm", `sporelet-test-${process.pid}`)];
    await sparseFile(source, 16, { 3: 1 });
    try {
      expect(await cloneFile(source, target)).toBe("copy");
      expect(Buffer.compare(await readFile(source), await readFile(target))).toBe(0);
    } finally {
      await rm(target, { force: true });
    }
  });

  it("are reflinks on XFS: no space until one side is written to", async (ctx) => {
    const reason = whyNoMounts();
    if (reason) ctx.skip(reason);
    await using xfs = await mountXfs();
    const [source, target] = [join(xfs.path, "a"), join(xfs.path, "b")];
    await writeFile(source, Buffer.alloc(8 * MiB, 7), { mode: 0o400 });
    expect(await cloneFile(source, target)).toBe("reflink");
    expect((await stat(target)).mode & 0o777).toBe(0o600);
    await using handle = await open(target, "r+");
    await handle.write("changed", 0);
    expect((await readFile(source)).subarray(0, 7)).toEqual(Buffer.alloc(7, 7));
  });
});

describe("punchZeroPages", () => {
  it("gives back zero pages, keeps the content and counts the rest", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "image");
    const filled: Record<number, number> = { 0: 1, 700: 2, 701: 3 };
    for (let page = 100; page < 600; page++) filled[page] = 0;
    await sparseFile(path, 1024, filled);
    const before = await readFile(path);
    expect(await allocatedBytes(path)).toBeGreaterThanOrEqual(503 * pageBytes);
    expect(await punchZeroPages(path)).toEqual({ usedBytes: 3 * pageBytes });
    expect(await allocatedBytes(path)).toBe(3 * pageBytes);
    expect(Buffer.compare(before, await readFile(path))).toBe(0);
  });

  it("does the same for any arrangement of pages", async () => {
    await using directory = await temporaryDirectory();
    let n = 0;
    const pages = fc.array(fc.constantFrom("hole", "zero", "data"), { minLength: 1, maxLength: 600 });
    await fc.assert(
      fc.asyncProperty(pages, async (kinds) => {
        const path = join(directory.path, String(n++));
        const filled = Object.fromEntries(
          kinds.flatMap((kind, page) => (kind === "hole" ? [] : [[page, kind === "data" ? 9 : 0]])),
        );
        await sparseFile(path, kinds.length, filled);
        const before = await readFile(path);
        const data = kinds.filter((kind) => kind === "data").length * pageBytes;
        expect(await punchZeroPages(path)).toEqual({ usedBytes: data });
        expect(await allocatedBytes(path)).toBe(data);
        expect(Buffer.compare(before, await readFile(path))).toBe(0);
      }),
      { numRuns: 30 },
    );
  });
});

describe("writeFileAtomic", () => {
  it("replaces the content and leaves no temporary file", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "state.json");
    await writeFileAtomic(path, "one");
    await writeFileAtomic(path, "two", 0o400);
    expect(await readFile(path, "utf8")).toBe("two");
    expect((await stat(path)).mode & 0o777).toBe(0o400);
    expect(await readdir(directory.path)).toEqual(["state.json"]);
  });

  it("keeps the old content when it fails", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "taken");
    await mkdir(path);
    await expect(writeFileAtomic(path, "data")).rejects.toThrow();
    expect(await readdir(directory.path)).toEqual(["taken"]);
  });
});
