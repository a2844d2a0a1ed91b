import { open, readFile, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { mountXfs, temporaryDirectory, whyNoMounts } from "../testing/index.ts";
import { cloneFile } from "./copy.ts";
import { dataExtents } from "./extents.ts";
import { openOverlay } from "./overlay.ts";
import { pageBytes } from "./pages.ts";

const pageCount = 48;

/** Pages that are holes (null), or filled from a byte; zero bytes are data that is zero. */
const image = fc.array(fc.option(fc.nat(3), { freq: 3 }), { minLength: pageCount, maxLength: pageCount });
const pieces = fc.array(
  fc.record({
    page: fc.nat(pageCount - 1),
    bytes: fc.array(fc.nat(3), { minLength: 1, maxLength: 9 }),
  }),
  { maxLength: 8 },
);

async function writeImage(path: string, pages: (number | null)[]): Promise<void> {
  await using file = await open(path, "wx");
  await file.truncate(pages.length * pageBytes);
  for (const [page, byte] of pages.entries()) {
    if (byte !== null) await file.write(Buffer.alloc(pageBytes, byte), 0, pageBytes, page * pageBytes);
  }
}

it("is the clone with the pieces laid over it, and knows every page that differs", async () => {
  await using directory = await temporaryDirectory();
  let n = 0;
  await fc.assert(
    fc.asyncProperty(image, pieces, async (pages, laid) => {
      const [base, target] = [join(directory.path, `base${n}`), join(directory.path, `target${n++}`)];
      await writeImage(base, pages);
      await cloneFile(base, target);
      const expected = pages.map((byte) => byte ?? 0);
      // As memory comes: in order, and no page twice.
      const covered = new Set<number>();
      const inOrder = laid
        .toSorted((a, b) => a.page - b.page)
        .flatMap(({ page, bytes }) => {
          const fitting = bytes.slice(0, pageCount - page);
          if (fitting.some((_, i) => covered.has(page + i))) return [];
          fitting.forEach((byte, i) => {
            covered.add(page + i);
            expected[page + i] = byte;
          });
          const content = Buffer.concat(fitting.map((byte) => Buffer.alloc(pageBytes, byte)));
          return [{ offset: page * pageBytes, content }];
        });
      await using overlay = await openOverlay(target, base);
      const changed = await overlay.put(inOrder);
      const content = await readFile(target);
      expect([...Array(pageCount).keys()].map((page) => content[page * pageBytes])).toEqual(expected);
      const differing = expected.flatMap((byte, page) => (byte === (pages[page] ?? 0) ? [] : [page]));
      expect(
        changed.flatMap(({ offset, length }) =>
          [...Array(length / pageBytes).keys()].map((page) => offset / pageBytes + page),
        ),
      ).toEqual(differing);
      const holes = await dataExtents(target);
      for (const page of differing.filter((each) => expected[each] === 0)) {
        const at = page * pageBytes;
        expect(holes.some(({ offset, length }) => offset <= at && at < offset + length)).toBe(false);
      }
    }),
    { numRuns: 60 },
  );
});

it("clears what the base has data for, and nothing else", async () => {
  await using directory = await temporaryDirectory();
  const [base, target] = [join(directory.path, "base"), join(directory.path, "target")];
  await writeImage(base, [1, null, 2, 0, 3, 4]);
  await cloneFile(base, target);
  await using overlay = await openOverlay(target, base);
  expect(await overlay.clear(pageBytes, 4 * pageBytes)).toEqual([
    { offset: 2 * pageBytes, length: pageBytes },
    { offset: 4 * pageBytes, length: pageBytes },
  ]);
  const content = await readFile(target);
  expect([0, 1, 2, 3, 4, 5].map((page) => content[page * pageBytes])).toEqual([1, 0, 0, 0, 0, 4]);
});

it("takes no space for pages that are the same as before", async (ctx) => {
  const reason = whyNoMounts();
  if (reason !== undefined) return ctx.skip(reason);
  await using volume = await mountXfs();
  const [base, target] = [join(volume.path, "base"), join(volume.path, "target")];
  const free = async () => (await statfs(volume.path)).bfree;
  await writeFile(base, Buffer.alloc(8 * 1024 * 1024, 7));
  await cloneFile(base, target);
  await using overlay = await openOverlay(target, base);
  await sync(target);
  const before = await free();
  expect(await overlay.put([{ offset: 0, content: Buffer.alloc(8 * 1024 * 1024, 7) }])).toEqual([]);
  await sync(target);
  expect(await free()).toBe(before);
  const page = Buffer.alloc(pageBytes, 8);
  await overlay.put([{ offset: 5 * pageBytes, content: page }]);
  await sync(target);
  expect(before - (await free())).toBeGreaterThan(0);
});

it("says which file is missing", async () => {
  await using directory = await temporaryDirectory();
  const target = join(directory.path, "target");
  await expect(openOverlay(target, join(directory.path, "base"))).rejects.toMatchObject({
    code: "not_found",
    subject: target,
  });
});

async function sync(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.sync();
}
