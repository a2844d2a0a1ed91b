import { createHash } from "node:crypto";
import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import fc from "fast-check";
import { expect, it } from "vitest";
import { digestOf } from "./digest.ts";

const pageBytes = 4096;

/** Pages that are zero, or filled from a seed byte; and the length of an unfinished last page. */
const images = fc.record({
  pages: fc.array(fc.option(fc.integer({ min: 1, max: 255 }), { freq: 2 }), { maxLength: 400 }),
  rest: fc.nat(pageBytes - 1),
});

function contentOf({ pages, rest }: { pages: (number | null)[]; rest: number }): Buffer {
  const content = Buffer.alloc(pages.length * pageBytes + rest);
  pages.forEach((byte, page) => {
    // One byte somewhere in the page is enough for it not to be zero.
    if (byte !== null) content[page * pageBytes + ((byte * 37) % pageBytes)] = byte;
  });
  if (rest > 0) content[content.length - 1] = rest % 256;
  return content;
}

/** The definition, word by word, without holes or blocks. */
function digestByDefinition(content: Buffer): string {
  const hash = createHash("sha256");
  const number = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  hash.update(number(content.length));
  for (let at = 0; at < content.length; at += pageBytes) {
    const page = content.subarray(at, at + pageBytes);
    if (page.some((byte) => byte !== 0)) hash.update(number(at)).update(page);
  }
  return `sha256:${hash.digest("hex")}`;
}

async function writeSparse(path: string, content: Buffer): Promise<void> {
  await using handle = await open(path, "wx");
  await handle.truncate(content.length);
  for (let at = 0; at < content.length; at += pageBytes) {
    const page = content.subarray(at, at + pageBytes);
    if (page.some((byte) => byte !== 0)) await handle.write(page, 0, page.length, at);
  }
}

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
      expect(await digestOf(sparse)).toEqual(digest);
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
      expect(await digestOf(path)).toEqual(before);
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
  await expect(digestOf(path, AbortSignal.abort())).rejects.toMatchObject({ code: "cancelled" });
});
