import { copyFile, open, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { allocatedBytes } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { digestOf } from "./digest.ts";
import { encodeBlob } from "./encode.ts";
import { flatten } from "./flatten.ts";
import { openFrame } from "./frame.ts";
import { parseIndex, readIndex } from "./index-tail.ts";
import { materialize } from "./materialize.ts";
import { contentOf, imageShapes, pageBytes, runsOf, writeSparse } from "./testing/images.ts";
import { applyNaively } from "./testing/naive-reader.ts";
import type { PageRun } from "./types.ts";

describe("a chain of blobs", () => {
  const chains = fc.record({
    images: fc.array(imageShapes, { minLength: 1, maxLength: 5 }),
    first: fc.array(fc.record({ page: fc.nat(300), count: fc.integer({ min: 1, max: 20 }) }), {
      maxLength: 8,
    }),
    frameBytes: fc.constantFrom(pageBytes, 4 * pageBytes, 16 * pageBytes, 512 * 1024),
    compared: fc.boolean(),
  });

  it("gives back the image that its last blob was made from, and each page by its frame alone", async () => {
    await using directory = await temporaryDirectory();
    let n = 0;
    await fc.assert(
      fc.asyncProperty(chains, async ({ images, first, frameBytes, compared }) => {
        const place = join(directory.path, String(n++));
        const blobs = [];
        let content: Buffer = Buffer.alloc(0);
        let before = content;
        for (const [layer, shape] of images.entries()) {
          before = content;
          content = contentOf(shape);
          await writeSparse(`${place}.image${layer}`, content);
          const path = `${place}.blob${layer}`;
          const base = layer > 0 && { base: `${place}.image${layer - 1}` };
          // Without a base to compare with, what changed has to be said, and may be said generously.
          const changed = layer > 0 && !compared && { changed: runsOf(before, content, 3) };
          const blob = await encodeBlob({
            image: `${place}.image${layer}`,
            ...(changed || base),
            first,
            frameBytes,
            target: path,
          });
          const { index, ref } = await readIndex(path);
          expect(blob.index).toEqual(ref);
          expect(blob.sizeBytes).toBe((await stat(path)).size);
          expect(blob).toMatchObject({ dataBytes: index.dataBytes, zeroBytes: index.zeroBytes });
          blobs.push({ path, index });
        }
        const target = `${place}.flat`;
        await materialize({ blobs, target });
        expect((await readFile(target)).equals(content)).toBe(true);

        // The same when it goes on from the image of an earlier blob.
        const from = Math.floor((blobs.length - 1) / 2);
        await copyFile(`${place}.image${from}`, `${place}.onto`);
        if (from + 1 < blobs.length) {
          await materialize({ blobs: blobs.slice(from + 1), target: `${place}.onto`, onto: true });
        }
        expect((await readFile(`${place}.onto`)).equals(content)).toBe(true);

        // Another implementation would make the same of it.
        const bytes = await Promise.all(blobs.map(({ path }) => readFile(path)));
        expect(applyNaively(bytes).equals(content)).toBe(true);

        const flat = flatten(blobs.map(({ index }) => index));
        expect(flat.dataBytes).toBe((await digestOf(target)).table.usedBytes + padding(content));
        for (let page = 0; page < Math.ceil(content.length / pageBytes) + 1; page++) {
          const expected = pageOf(content, page);
          const position = flat.frameOf(page);
          if (position === undefined) {
            expect(expected.every((byte) => byte === 0)).toBe(true);
            continue;
          }
          const frame = flat.frames[position];
          const blob = blobs[frame?.layer ?? -1];
          const write = frame?.writes.find((run) => run.page <= page && page < run.page + run.count);
          if (frame === undefined || blob === undefined || write === undefined)
            throw new Error("no such frame");
          const { offset = 0, sizeBytes = 0 } = blob.index.frames[frame.frame] ?? {};
          const compressed = (await readFile(blob.path)).subarray(offset, offset + sizeBytes);
          const raw = await openFrame(blob.index, frame.frame, compressed);
          const at = write.at + (page - write.page) * pageBytes;
          expect(raw.subarray(at, at + pageBytes).equals(expected)).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  function padding(content: Buffer): number {
    const rest = content.length % pageBytes;
    const last = content.subarray(content.length - rest);
    return rest > 0 && last.some((byte) => byte !== 0) ? pageBytes - rest : 0;
  }

  function pageOf(content: Buffer, page: number): Buffer {
    const whole = Buffer.alloc(pageBytes);
    content.subarray(page * pageBytes, (page + 1) * pageBytes).copy(whole);
    return whole;
  }
});

describe("a blob", () => {
  it("is a stream that any zstd decoder reads: the pages in order", async () => {
    await using directory = await temporaryDirectory();
    const [image, target] = [join(directory.path, "image"), join(directory.path, "blob")];
    const content = contentOf({ pages: [1, null, 2, 3, null, null, 4], rest: 0 });
    await writeSparse(image, content);
    await encodeBlob({ image, target });
    const pages = [0, 2, 3, 6].map((page) => content.subarray(page * pageBytes, (page + 1) * pageBytes));
    expect(zstdDecompressSync(await readFile(target)).equals(Buffer.concat(pages))).toBe(true);
  });

  it("is the same for the same image, however its zeros are stored", async () => {
    await using directory = await temporaryDirectory();
    const at = (name: string) => join(directory.path, name);
    const content = contentOf({
      pages: Array.from({ length: 900 }, (_, i) => (i % 3 ? i % 255 : null)),
      rest: 77,
    });
    await writeFile(at("dense"), content);
    await writeSparse(at("sparse"), content);
    const dense = await encodeBlob({ image: at("dense"), target: at("1") });
    expect(await encodeBlob({ image: at("sparse"), target: at("2") })).toEqual(dense);
    expect((await readFile(at("1"))).equals(await readFile(at("2")))).toBe(true);
  });

  it("has the pages that are wanted first in its first frames, in the order in which they are wanted", async () => {
    await using directory = await temporaryDirectory();
    const [image, target] = [join(directory.path, "image"), join(directory.path, "blob")];
    await writeSparse(
      image,
      contentOf({ pages: Array.from({ length: 64 }, (_, i) => (i === 41 ? null : i + 1)), rest: 0 }),
    );
    const first: PageRun[] = [
      { page: 40, count: 3 },
      { page: 7, count: 1 },
      { page: 39, count: 2 },
      { page: 1000, count: 5 },
      { page: 20, count: 1 },
    ];
    await encodeBlob({ image, target, first, frameBytes: 3 * pageBytes });
    const { index } = await readIndex(target);
    expect(index.hotFrames).toBe(2);
    expect(index.frames.slice(0, 2).map(({ runs }) => runs)).toEqual([
      [
        { page: 7, count: 1 },
        { page: 40, count: 1 },
        { page: 42, count: 1 },
      ],
      [
        { page: 20, count: 1 },
        { page: 39, count: 1 },
      ],
    ]);
  });

  it("costs nothing for pages that did not change, and next to nothing for pages that became zero", async () => {
    await using directory = await temporaryDirectory();
    const at = (name: string) => join(directory.path, name);
    const pages: (number | null)[] = Array.from({ length: 2000 }, (_, i) => (i % 250) + 1);
    await writeSparse(at("base"), contentOf({ pages, rest: 0 }));
    pages[3] = 251;
    pages.fill(null, 100, 1900);
    const content = contentOf({ pages, rest: 0 });
    await writeSparse(at("image"), content);
    const blob = await encodeBlob({ image: at("image"), base: at("base"), target: at("blob") });
    expect(blob).toMatchObject({ dataBytes: pageBytes, zeroBytes: 1800 * pageBytes });
    expect(blob.sizeBytes).toBeLessThan(300);
    await encodeBlob({ image: at("base"), target: at("baseblob") });
    const blobs = await Promise.all(
      [at("baseblob"), at("blob")].map(async (path) => ({ path, index: (await readIndex(path)).index })),
    );
    await materialize({ blobs, target: at("flat") });
    expect((await readFile(at("flat"))).equals(content)).toBe(true);
    expect(await allocatedBytes(at("flat"))).toBe(200 * pageBytes);
  });

  it("of an empty image, and of one that is a terabyte of nothing, holds nothing", async () => {
    await using directory = await temporaryDirectory();
    for (const size of [0, 2 ** 40]) {
      const at = (name: string) => join(directory.path, `${name}${size}`);
      await writeFile(at("image"), "");
      await truncate(at("image"), size);
      const blob = await encodeBlob({ image: at("image"), target: at("blob") });
      expect(blob).toMatchObject({ dataBytes: 0, imageBytes: size });
      const { index } = await readIndex(at("blob"));
      await materialize({ blobs: [{ path: at("blob"), index }], target: at("flat") });
      expect((await stat(at("flat"))).size).toBe(size);
      expect(await allocatedBytes(at("flat"))).toBe(0);
    }
  });

  it("can be read by its tail alone", async () => {
    await using directory = await temporaryDirectory();
    const [image, target] = [join(directory.path, "image"), join(directory.path, "blob")];
    await writeSparse(image, contentOf({ pages: [1, 2, 3], rest: 9 }));
    const { index: ref, sizeBytes } = await encodeBlob({ image, target });
    expect(ref.offset + ref.sizeBytes).toBe(sizeBytes);
    const tail = (await readFile(target)).subarray(ref.offset);
    expect(parseIndex(tail, ref)).toEqual((await readIndex(target)).index);
  });
});

describe("encoding", () => {
  it("leaves nothing behind when it is aborted, and does not touch what exists", async () => {
    await using directory = await temporaryDirectory();
    const [image, target] = [join(directory.path, "image"), join(directory.path, "blob")];
    await writeSparse(
      image,
      contentOf({ pages: Array.from({ length: 600 }, (_, i) => (i % 255) + 1), rest: 0 }),
    );
    const controller = new AbortController();
    const encoding = encodeBlob({
      image,
      target,
      frameBytes: pageBytes,
      onProgress: () => controller.abort(),
      signal: controller.signal,
    });
    await expect(encoding).rejects.toMatchObject({ code: "cancelled" });
    await expect(stat(target)).rejects.toMatchObject({ code: "ENOENT" });
    await writeFile(target, "precious");
    await expect(encodeBlob({ image, target })).rejects.toMatchObject({ code: "already_exists" });
    expect(await readFile(target, "utf8")).toBe("precious");
  });

  it("says what is missing or cannot be", async () => {
    await using directory = await temporaryDirectory();
    const target = join(directory.path, "blob");
    await expect(encodeBlob({ image: "/nowhere", target })).rejects.toMatchObject({ code: "not_found" });
    const image = join(directory.path, "image");
    await writeFile(image, "x");
    await expect(encodeBlob({ image, target, frameBytes: 1000 })).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });

  it("tells how far it is", async () => {
    await using directory = await temporaryDirectory();
    const at = (name: string) => join(directory.path, name);
    await writeSparse(at("image"), contentOf({ pages: [1, 2, 3, null, 4], rest: 0 }));
    const seen: number[][] = [];
    const onProgress = (done: number, total: number) => seen.push([done / pageBytes, total / pageBytes]);
    await encodeBlob({ image: at("image"), target: at("blob"), frameBytes: 3 * pageBytes, onProgress });
    expect(seen).toEqual([
      [3, 4],
      [4, 4],
    ]);
    seen.length = 0;
    const { index } = await readIndex(at("blob"));
    await materialize({ blobs: [{ path: at("blob"), index }], target: at("flat"), onProgress });
    expect(seen.at(-1)).toEqual([4, 4]);
  });
});

describe("materialising", () => {
  it("leaves nothing behind when a frame is damaged, and names the blob and the frame", async () => {
    await using directory = await temporaryDirectory();
    const at = (name: string) => join(directory.path, name);
    await writeSparse(at("image"), contentOf({ pages: [1, 2, 3, 4], rest: 0 }));
    await encodeBlob({ image: at("image"), target: at("blob"), frameBytes: pageBytes });
    const { index } = await readIndex(at("blob"));
    const { offset = 0 } = index.frames[2] ?? {};
    await using handle = await open(at("blob"), "r+");
    await handle.write(Buffer.from([0xff]), 0, 1, offset + 5);
    const blobs = [{ path: at("blob"), index }];
    await expect(materialize({ blobs, target: at("flat") })).rejects.toMatchObject({
      code: "corrupt",
      operation: "decode frame 2 of",
      subject: at("blob"),
    });
    await expect(stat(at("flat"))).rejects.toMatchObject({ code: "ENOENT" });
    await truncate(at("blob"), offset + 1);
    await expect(materialize({ blobs, target: at("flat") })).rejects.toMatchObject({ code: "corrupt" });
  });
});
