import { open, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cloneFile, type PhysicalExtent } from "@sporelet/host";
import { mountXfs, temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { differingPages } from "./differing-pages.ts";
import { intersectRuns, normalizeRuns } from "./runs.ts";
import { pagesWithSameBlocks, sameBlocks } from "./same-blocks.ts";
import { contentOf, imageShapes, pageBytes, runsOf, writeSparse } from "./testing/images.ts";

describe("differingPages", () => {
  it("finds exactly the pages with other content, whatever is stored and whatever is a hole", async () => {
    await using directory = await temporaryDirectory();
    let n = 0;
    const scenario = fc.record({
      image: imageShapes,
      base: imageShapes,
      dense: fc.boolean(),
      within: fc.option(fc.array(fc.record({ page: fc.nat(300), count: fc.nat(60) }))),
    });
    await fc.assert(
      fc.asyncProperty(scenario, async ({ image, base, dense, within }) => {
        const [ours, theirs] = [join(directory.path, `image${n}`), join(directory.path, `base${n++}`)];
        const [content, before] = [contentOf(image), contentOf(base)];
        await (dense ? writeFile(ours, content) : writeSparse(ours, content));
        await writeSparse(theirs, before);
        const expected = normalizeRuns(runsOf(before, content));
        const found = await differingPages(ours, theirs, within === null ? {} : { within });
        expect(found).toEqual(within === null ? expected : intersectRuns(expected, normalizeRuns(within)));
      }),
      { numRuns: 100 },
    );
  });

  it("asks the file system which pages a reflink still shares, also while changes are on their way to the disk", async (ctx) => {
    const reason = whyNoMounts();
    if (reason) ctx.skip(reason);
    await using xfs = await mountXfs();
    const [base, image] = [join(xfs.path, "base"), join(xfs.path, "image")];
    const content = contentOf({ pages: Array.from({ length: 5000 }, (_, i) => (i % 255) + 1), rest: 123 });
    await writeFile(base, content);
    await cloneFile(base, image);
    await using handle = await open(image, "r+");
    for (const page of [0, 7, 8, 4999, 5000]) await handle.write("changed", page * pageBytes);
    await handle.write(content.subarray(100 * pageBytes, 101 * pageBytes), 0, pageBytes, 100 * pageBytes);
    expect(await differingPages(image, base)).toEqual([
      { page: 0, count: 1 },
      { page: 7, count: 2 },
      { page: 4999, count: 2 },
    ]);
    await using baseHandle = await open(base, "r");
    const same = await pagesWithSameBlocks(handle, baseHandle);
    const shared = same.reduce((sum, { count }) => sum + count, 0);
    expect(shared).toBeGreaterThan(4800); // XFS copies up to 128 KiB around what is written (its cowextsize).
    expect(shared).toBeLessThan(4997);
  });

  it("sees a page that became zero, and one that lies past the end of the base", async () => {
    await using directory = await temporaryDirectory();
    const [image, base] = [join(directory.path, "image"), join(directory.path, "base")];
    await writeSparse(base, contentOf({ pages: [1, 2, 3], rest: 0 }));
    await writeSparse(image, contentOf({ pages: [1, null, 3, null, 5, null], rest: 0 }));
    expect(await differingPages(image, base)).toEqual([
      { page: 1, count: 1 },
      { page: 4, count: 1 },
    ]);
  });

  it("does not look at what neither image stores", async () => {
    await using directory = await temporaryDirectory();
    const [image, base] = [join(directory.path, "image"), join(directory.path, "base")];
    for (const path of [image, base]) {
      await writeFile(path, "same");
      await truncate(path, 2 ** 40);
    }
    expect(await differingPages(image, base)).toEqual([]);
  });

  it("says what is missing, and stops when it is aborted", async () => {
    await using directory = await temporaryDirectory();
    const image = join(directory.path, "image");
    await writeFile(image, "x");
    await expect(differingPages(image, "/nowhere")).rejects.toMatchObject({ code: "not_found" });
    const signal = AbortSignal.abort();
    await expect(differingPages(image, image, { signal })).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("sameBlocks", () => {
  const extent = (offset: number, length: number, physical: number | undefined, unwritten = false) =>
    ({ offset, length, physical, unwritten, shared: true }) satisfies PhysicalExtent;
  const page = pageBytes;

  it("finds shared pages however the extents are cut", () => {
    const ours = [extent(0, 4 * page, 100 * page), extent(4 * page, 4 * page, 300 * page)];
    const theirs = [
      extent(0, page, 100 * page),
      extent(page, 5 * page, 101 * page),
      extent(6 * page, 2 * page, 302 * page),
    ];
    expect(sameBlocks(ours, theirs)).toEqual([
      { page: 0, count: 4 },
      { page: 6, count: 2 },
    ]);
  });

  it("takes no page for shared of which only a part is", () => {
    const ours = [extent(0, 3 * page + 512, page)];
    const theirs = [extent(512, 4 * page, page + 512)];
    expect(sameBlocks(ours, theirs)).toEqual([{ page: 1, count: 2 }]);
  });

  it("trusts no extent without an address, and none that is only reserved", () => {
    const unknown = [extent(0, page, undefined)];
    const reserved = [extent(0, page, page, true)];
    const data = [extent(0, page, page)];
    expect(sameBlocks(unknown, unknown)).toEqual([]);
    expect(sameBlocks(reserved, data)).toEqual([]);
    expect(sameBlocks(data, data)).toEqual([{ page: 0, count: 1 }]);
  });
});
