import { open, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { mountXfs, temporaryDirectory, whyNoMounts } from "../testing/index.ts";
import { cloneFile } from "./copy.ts";
import { type PhysicalExtent, physicalExtents } from "./fiemap.ts";
import { pageBytes } from "./pages.ts";

/** The address of each page of a file; undefined for holes. */
function pageAddresses(extents: PhysicalExtent[], pages: number): (number | undefined)[] {
  const addresses = Array<number | undefined>(pages).fill(undefined);
  for (const { offset, length, physical } of extents) {
    if (physical === undefined) throw new Error("an extent without an address");
    for (let at = 0; at < length; at += pageBytes) addresses[(offset + at) / pageBytes] = physical + at;
  }
  return addresses;
}

async function writePages(path: string, pages: Iterable<number>, byte: number): Promise<void> {
  await using handle = await open(path, "r+");
  for (const page of pages) await handle.write(Buffer.alloc(pageBytes, byte), 0, pageBytes, page * pageBytes);
}

it("tells of a reflink which pages it still has in common with its source, for any writes", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using xfs = await mountXfs();
  let n = 0;
  const pages = 64;
  const some = fc.uniqueArray(fc.nat(pages - 1));
  await fc.assert(
    fc.asyncProperty(some, some, async (filled, rewritten) => {
      const [source, target] = [join(xfs.path, `a${n}`), join(xfs.path, `b${n++}`)];
      await writeFile(source, "");
      await truncate(source, pages * pageBytes);
      await writePages(source, filled, 1);
      expect(await cloneFile(source, target)).toBe("reflink");
      await writePages(target, rewritten, 2);

      const [before, after] = [await physicalExtents(source), await physicalExtents(target)];
      if (before === undefined || after === undefined) throw new Error("XFS tells extents");
      const [old, now] = [pageAddresses(before, pages), pageAddresses(after, pages)];
      for (let page = 0; page < pages; page++) {
        const wasFilled = filled.includes(page);
        expect(old[page] !== undefined).toBe(wasFilled);
        if (rewritten.includes(page)) expect(now[page]).not.toBe(old[page]);
        else expect(now[page]).toBe(old[page]);
        // Blocks that are in both files say so.
        const extent = after.find(
          (each) => each.offset <= page * pageBytes && page * pageBytes < each.offset + each.length,
        );
        if (wasFilled && !rewritten.includes(page)) expect(extent?.shared).toBe(true);
      }
    }),
    { numRuns: 30 },
  );
});

it("tells more extents than one call holds, and only the part that is asked for", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using xfs = await mountXfs();
  const path = join(xfs.path, "image");
  const count = 5000;
  await writeFile(path, "");
  await truncate(path, 2 * count * pageBytes);
  // Every second page, so that no two are one extent.
  await writePages(
    path,
    Array.from({ length: count }, (_, i) => i * 2),
    1,
  );
  const all = await physicalExtents(path);
  expect(all?.map(({ offset, length }) => [offset, length])).toEqual(
    Array.from({ length: count }, (_, i) => [i * 2 * pageBytes, pageBytes]),
  );
  expect(await physicalExtents(path, { offset: 2 * pageBytes, length: 2 * pageBytes })).toEqual([all?.[1]]);
  expect(await physicalExtents(path, { offset: 2 * pageBytes, length: 3 * pageBytes })).toEqual(
    all?.slice(1, 3),
  );
  expect(await physicalExtents(path, { offset: 2 * count * pageBytes })).toEqual([]);
  expect(await physicalExtents(path, { maxExtents: count })).toEqual(all);
  expect(await physicalExtents(path, { maxExtents: count - 1 })).toBeUndefined();
  await expect(physicalExtents(path, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: "cancelled",
  });
});

it("begins and ends inside of extents where it is asked to", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using xfs = await mountXfs();
  const path = join(xfs.path, "image");
  await writeFile(path, Buffer.alloc(8 * pageBytes, 1));
  const [whole] = (await physicalExtents(path)) ?? [];
  expect(whole).toMatchObject({ offset: 0, length: 8 * pageBytes, shared: false, unwritten: false });
  expect(await physicalExtents(path, { offset: 3 * pageBytes, length: 2 * pageBytes })).toEqual([
    {
      ...whole,
      offset: 3 * pageBytes,
      length: 2 * pageBytes,
      physical: (whole?.physical ?? 0) + 3 * pageBytes,
    },
  ]);
});

it("ends where the file does, or tells whole blocks", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using xfs = await mountXfs();
  const path = join(xfs.path, "image");
  await writeFile(path, "a few bytes");
  expect(await physicalExtents(path)).toMatchObject([{ offset: 0, length: 11 }]);
  expect(await physicalExtents(path, { pastEnd: true })).toMatchObject([{ offset: 0, length: pageBytes }]);
});

it("does not know on file systems that do not tell, and says what is missing", async () => {
  const path = join("/dev/shm", `sporelet-test-fiemap-${process.pid}`);
  await writeFile(path, "x");
  try {
    expect(await physicalExtents(path)).toBeUndefined();
  } finally {
    await rm(path);
  }
  await using directory = await temporaryDirectory();
  const nothing = join(directory.path, "nothing");
  await expect(physicalExtents(nothing)).rejects.toMatchObject({ code: "not_found", subject: nothing });
});
