import { createHash } from "node:crypto";
import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import fc from "fast-check";
import { expect, it } from "vitest";
import { parseChunkTable } from "./chunk-table.ts";
import { digestOf, type ImageDigest } from "./digest.ts";
import { contentOf, pageBytes, runsOf, writeSparse } from "./testing/images.ts";

/** Larger than one chunk, now and then. */
const images = fc.record({
  pages: fc.array(fc.option(fc.integer({ min: 1, max: 255 }), { freq: 2 }), { maxLength: 700 }),
  rest: fc.nat(pageBytes - 1),
});

/** The definition, word by word, without holes or blocks. */
function digestByDefinition(content: Buffer): string {
  const sha256 = (...parts: Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest();
  const number = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  const parts = [Buffer.from("sporelet page image 2\n"), number(content.length)];
  for (let chunk = 0; chunk * 256 * pageBytes < content.length; chunk++) {
    const bitmap = Buffer.alloc(32);
    const pages: Buffer[] = [];
    for (let n = 0; n < 256; n++) {
      const at = (chunk * 256 + n) * pageBytes;
      const page = Buffer.alloc(pageBytes);
      content.subarray(at, at + pageBytes).copy(page);
      if (page.every((byte) => byte === 0)) continue;
      bitmap[n >> 3] = (bitmap[n >> 3] ?? 0) | (1 << (n & 7));
      pages.push(page);
    }
    if (pages.length > 0) parts.push(number(chunk), sha256(bitmap, ...pages));
  }
  return `sha256:${sha256(...parts).toString("hex")}`;
}

const withoutTable = ({ digest, usedBytes }: ImageDigest) => ({ digest, usedBytes });

it("is what its definition says, for dense and for sparse files alike", async () => {
  await using directory = await temporaryDirectory();
  let n = 0;
  await fc.assert(
    fc.asyncProperty(images, async (image) => {
      const content = contentOf(image);
      const [dense, sparse] = [join(directory.path, `dense${n}`), join(directory.path, `sparse${n++}`)];
      await writeFile(dense, content);
      await writeSparse(sparse, content);
      const digest = await digestOf(dense);
      expect(digest.digest).toBe(digestByDefinition(content));
      expect(withoutTable(await digestOf(sparse))).toEqual(withoutTable(digest));
      expect(digest.table.digest).toBe(digest.digest);
    }),
    { numRuns: 40 },
  );
});

it("changes with any byte, and with the size", async () => {
  await using directory = await temporaryDirectory();
  let n = 0;
  await fc.assert(
    fc.asyncProperty(images, fc.nat(), fc.integer({ min: 1, max: 255 }), async (image, at, difference) => {
      const content = contentOf(image);
      fc.pre(content.length > 0);
      const path = join(directory.path, String(n++));
      await writeFile(path, content);
      const before = await digestOf(path);
      const changed = at % content.length;
      content[changed] = (content[changed] ?? 0) ^ difference;
      await writeFile(path, content);
      expect((await digestOf(path)).digest).not.toBe(before.digest);
      content[changed] = (content[changed] ?? 0) ^ difference;
      await writeFile(path, content);
      expect((await digestOf(path)).digest).toEqual(before.digest);
      await truncate(path, content.length + 1);
      expect((await digestOf(path)).digest).not.toBe(before.digest);
    }),
    { numRuns: 40 },
  );
});

it("counts the bytes in pages that are not zero", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "image");
  await writeSparse(path, contentOf({ pages: [1, null, 2, null, null], rest: 0 }));
  expect((await digestOf(path)).usedBytes).toBe(2 * pageBytes);
  expect(await readFile(path)).toHaveLength(5 * pageBytes);
});

it("counts a short last page as long as it is", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "image");
  await writeFile(path, Buffer.alloc(pageBytes + 100, 1));
  expect((await digestOf(path)).usedBytes).toBe(pageBytes + 100);
});

it("of a child, by its parent's table and what changed, is the same as from scratch", async () => {
  await using directory = await temporaryDirectory();
  let n = 0;
  await fc.assert(
    fc.asyncProperty(images, images, fc.boolean(), async (parent, other, keep) => {
      const path = join(directory.path, String(n++));
      const before = contentOf(parent);
      // Much the same as its parent, or something else altogether; of any size.
      const after = contentOf(keep ? { pages: [...parent.pages, ...other.pages], rest: other.rest } : other);
      await writeFile(path, before);
      const table = parseChunkTable((await digestOf(path)).table.toBuffer());
      await writeFile(path, after);
      const changed = runsOf(before, after);
      const child = await digestOf(path, { base: { table, changed } });
      expect(withoutTable(child)).toEqual(withoutTable(await digestOf(path)));
    }),
    { numRuns: 40 },
  );
});

it("of a child reads only chunks with changed pages", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "image");
  const content = contentOf({ pages: Array.from({ length: 600 }, (_, i) => 1 + (i % 255)), rest: 0 });
  await writeFile(path, content);
  const { table, digest } = await digestOf(path);
  content.fill(7);
  await writeFile(path, content);
  // Nothing is said to have changed: the answer comes from the table alone.
  expect((await digestOf(path, { base: { table, changed: [] } })).digest).toBe(digest);
});

it("takes no table that is damaged", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "image");
  await writeFile(path, contentOf({ pages: Array.from({ length: 600 }, () => 1), rest: 5 }));
  const bytes = (await digestOf(path)).table.toBuffer();
  const { digest } = parseChunkTable(bytes);
  const damages = fc.record({
    at: fc.nat(bytes.length - 1),
    xor: fc.integer({ min: 1, max: 255 }),
    cut: fc.nat(9),
  });
  fc.assert(
    fc.property(damages, ({ at, xor, cut }) => {
      const damaged = Buffer.from(bytes.subarray(0, bytes.length - Math.max(0, cut - 5)));
      if (at < damaged.length) damaged[at] = (damaged[at] ?? 0) ^ xor;
      let found: string | undefined;
      try {
        // What can still be read is the table of another image; sizes of use are no part of the digest.
        found = parseChunkTable(damaged).digest;
      } catch (error) {
        expect(error).toMatchObject({ code: "corrupt" });
      }
      const countsOnly =
        damaged.length === bytes.length && at >= 16 && (at - 16) % 40 >= 4 && (at - 16) % 40 < 8;
      if (!countsOnly) expect(found).not.toBe(digest);
    }),
  );
});

it("does not read holes: a terabyte of nothing takes no time", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "image");
  await writeFile(path, "");
  await truncate(path, 2 ** 40);
  expect((await digestOf(path)).usedBytes).toBe(0);
});

it("says what is missing, and stops when it is aborted", async () => {
  await expect(digestOf("/nowhere/image")).rejects.toMatchObject({
    code: "not_found",
    subject: "/nowhere/image",
  });
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "image");
  await writeFile(path, Buffer.alloc(pageBytes, 1));
  await expect(digestOf(path, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });
});
