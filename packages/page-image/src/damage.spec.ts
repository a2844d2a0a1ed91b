import { createHash } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { SporeletError } from "@sporelet/errors";
import { temporaryDirectory } from "@sporelet/host/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BlobIndex, IndexRef } from "./blob-index.ts";
import { encodeBlob } from "./encode.ts";
import { flatten } from "./flatten.ts";
import { openFrame } from "./frame.ts";
import { parseIndex, readIndex } from "./index-tail.ts";
import { materialize } from "./materialize.ts";
import { contentOf, pageBytes, writeSparse } from "./testing/images.ts";
import type { Digest } from "./types.ts";
import { VarintWriter } from "./varint.ts";

/** What somebody, or a disk, may do to bytes. */
type Damage = (bytes: Buffer) => Buffer;

const damages: fc.Arbitrary<Damage> = fc.oneof(
  fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })).map(([at, xor]) => (bytes: Buffer) => {
    const damaged = Buffer.from(bytes);
    if (bytes.length > 0) damaged[at % bytes.length] = (damaged[at % bytes.length] ?? 0) ^ xor;
    return damaged;
  }),
  fc.nat().map((cut) => (bytes: Buffer) => Buffer.from(bytes.subarray(0, cut % (bytes.length + 1)))),
  fc.nat().map((cut) => (bytes: Buffer) => Buffer.from(bytes.subarray(cut % (bytes.length + 1)))),
  fc
    .tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 40 }))
    .map(([at, insert]) => (bytes: Buffer) => {
      const place = at % (bytes.length + 1);
      return Buffer.concat([bytes.subarray(0, place), insert, bytes.subarray(place)]);
    }),
  fc.tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 40 })).map(([at, over]) => (bytes: Buffer) => {
    const damaged = Buffer.from(bytes);
    if (bytes.length > 0) Buffer.from(over).copy(damaged, at % bytes.length);
    return damaged;
  }),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => () => Buffer.from(bytes)),
);

/** Several at once, now and then. */
const anyDamage = fc.array(damages, { minLength: 1, maxLength: 3 }).map(
  (list): Damage =>
    (bytes) =>
      list.reduce((result, damage) => damage(result), bytes),
);

function sha256(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function digestOf(bytes: Buffer): Digest {
  return `sha256:${sha256(bytes).toString("hex")}`;
}

/** What an attempt gives, unless it fails in one of the two ways in which it may. */
async function attempt<T>(action: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    expect(error).toBeInstanceOf(SporeletError);
    expect(["corrupt", "incompatible"]).toContain((error as SporeletError).code);
    expect((error as SporeletError).reason).not.toBe("");
    return undefined;
  }
}

/** A tail around a record, correctly signed: as somebody would make it who knows the format and means harm. */
function tailOf(record: Buffer, edit: (footer: Buffer) => void = () => {}): Buffer {
  const index = zstdCompressSync(record);
  const tail = Buffer.alloc(8 + index.length + 64);
  tail.writeUInt32LE(0x184d2a50, 0);
  tail.writeUInt32LE(index.length, 4);
  index.copy(tail, 8);
  const footer = tail.subarray(-64);
  footer.writeUInt32LE(0x184d2a50, 0);
  footer.writeUInt32LE(56, 4);
  footer.writeUInt32LE(index.length, 8);
  footer.writeUInt32LE(record.length, 12);
  sha256(index).copy(footer, 16);
  footer.writeUInt16LE(1, 48);
  footer.write("SPOREPGI", 56);
  edit(footer);
  return tail;
}

function refOf(tail: Buffer, offset: number): IndexRef {
  return { digest: digestOf(tail), offset, sizeBytes: tail.length };
}

/** A blob with all that there is: hot frames, several runs in a frame, zero runs. */
async function sampleBlob(
  directory: string,
): Promise<{ path: string; blob: Buffer; ref: IndexRef; index: BlobIndex }> {
  const at = (name: string) => join(directory, name);
  const pages: (number | null)[] = Array.from({ length: 64 }, (_, i) => (i % 5 === 0 ? null : i + 1));
  await writeSparse(at("base"), contentOf({ pages, rest: 0 }));
  pages.fill(null, 20, 30);
  for (const page of [1, 2, 5, 40, 42, 44, 46, 63]) pages[page] = 200 + page;
  await writeSparse(at("image"), contentOf({ pages, rest: 10 }));
  const path = at("sample");
  const first = [{ page: 40, count: 5 }];
  await encodeBlob({ image: at("image"), base: at("base"), first, frameBytes: 3 * pageBytes, target: path });
  return { path, blob: await readFile(path), ...(await readIndex(path)) };
}

function recordOf(blob: Buffer, ref: IndexRef): Buffer {
  return zstdDecompressSync(blob.subarray(ref.offset + 8, -64));
}

describe("damaged input", () => {
  it("of any kind to a file ends in an error that says corrupt or incompatible", async () => {
    await using directory = await temporaryDirectory();
    const sample = await sampleBlob(directory.path);
    const whole = join(directory.path, "whole");
    await materialize({ blobs: [sample], target: whole });
    const content = await readFile(whole);
    let n = 0;
    await fc.assert(
      fc.asyncProperty(anyDamage, async (damage) => {
        const path = join(directory.path, `damaged${n}`);
        const target = join(directory.path, `flat${n++}`);
        await writeFile(path, damage(sample.blob));
        const read = await attempt(() => readIndex(path));
        if (read === undefined) return;
        // The index is whole. Either nothing that matters was hit, or a frame's digest tells.
        const done = await attempt(async () => {
          await materialize({ blobs: [{ path, index: read.index }], target });
          return true;
        });
        if (done) expect((await readFile(target)).equals(content)).toBe(true);
        else await expect(stat(target)).rejects.toMatchObject({ code: "ENOENT" });
      }),
      { numRuns: 300 },
    );
  });

  it("to an index that is signed all the same is found, or makes an image that keeps within its size", async () => {
    await using directory = await temporaryDirectory();
    const { path, blob, ref } = await sampleBlob(directory.path);
    const record = recordOf(blob, ref);
    let n = 0;
    let harmless = 0;
    await fc.assert(
      fc.asyncProperty(anyDamage, async (damage) => {
        const tail = tailOf(damage(record));
        const index = await attempt(() => parseIndex(tail, refOf(tail, ref.offset)));
        if (index === undefined) return;
        harmless++;
        const pages = Math.ceil(index.imageBytes / pageBytes);
        const flat = flatten([index]);
        for (const { writes } of flat.frames) {
          for (const { page, count } of writes) expect(page >= 0 && page + count <= pages).toBe(true);
        }
        if (index.imageBytes > 2 ** 30) return;
        const target = join(directory.path, `flat${n++}`);
        await attempt(() => materialize({ blobs: [{ path, index }], target }));
        const size = await stat(target).then(
          (found) => found.size,
          () => index.imageBytes,
        );
        expect(size).toBe(index.imageBytes);
      }),
      { numRuns: 2000 },
    );
    expect(harmless).toBeGreaterThan(0);
  });

  it("to a footer that is signed all the same is found", async () => {
    await using directory = await temporaryDirectory();
    const { blob, ref, index } = await sampleBlob(directory.path);
    await fc.assert(
      fc.asyncProperty(anyDamage, async (damage) => {
        const tail = damage(blob.subarray(ref.offset));
        const found = await attempt(() => parseIndex(tail, refOf(tail, ref.offset)));
        // Only the features that readers need not know may differ without changing what is read.
        if (found !== undefined) expect(found).toEqual(index);
      }),
      { numRuns: 1000 },
    );
  });

  it("to a frame that is signed all the same never gives more or fewer pages than the index says", async () => {
    await using directory = await temporaryDirectory();
    const { blob, index } = await sampleBlob(directory.path);
    await fc.assert(
      fc.asyncProperty(anyDamage, fc.nat(index.frames.length - 1), async (damage, n) => {
        const { offset = 0, sizeBytes = 0, rawBytes = 0 } = index.frames[n] ?? {};
        const bytes = damage(blob.subarray(offset, offset + sizeBytes));
        const frames = index.frames.map((frame, i) =>
          i === n ? { ...frame, sizeBytes: bytes.length, digest: digestOf(bytes) } : frame,
        );
        const raw = await attempt(() => openFrame({ ...index, frames }, n, bytes));
        if (raw !== undefined) expect(raw).toHaveLength(rawBytes);
      }),
      { numRuns: 2000 },
    );
  });

  it("of a frame that decompresses to much more than it says stops there", async () => {
    const bomb = zstdCompressSync(Buffer.alloc(64 * 2 ** 20));
    const frame = {
      offset: 0,
      sizeBytes: bomb.length,
      rawBytes: pageBytes,
      digest: digestOf(bomb),
      runs: [],
    };
    const index = {
      imageBytes: pageBytes,
      frames: [frame],
      hotFrames: 0,
      zeroRuns: [],
      dataBytes: 0,
      zeroBytes: 0,
    };
    await expect(openFrame(index, 0, bomb)).rejects.toMatchObject({ code: "corrupt" });
  });
});

describe("an index", () => {
  const oneFrame = (fields: {
    page?: number;
    runs?: number;
    count?: number;
    size?: number;
    zeros?: number[];
  }) => {
    const writer = new VarintWriter();
    const { page = 0, runs = 1, count = 1, size = 20, zeros = [] } = fields;
    for (const value of [100 * pageBytes, 1, 0, size, runs]) writer.number(value);
    writer.signed(page);
    writer.number(count - 1);
    writer.number(zeros.length);
    for (const zero of zeros) for (const value of [zero, 0]) writer.number(value);
    writer.bytes(Buffer.alloc(32));
    return writer.finish();
  };
  const numbers = (...values: number[]) => {
    const writer = new VarintWriter();
    for (const value of values) writer.number(value);
    return writer.finish();
  };
  const cases: [string, Buffer, RegExp][] = [
    ["an image of 17 TiB", numbers(17 * 2 ** 40, 0, 0, 0), /size of the image is absurd/],
    ["more frames than there may be", numbers(4096, 2 ** 21), /number of frames is absurd/],
    ["a million frames in a few bytes", numbers(4096, 2 ** 20), /no room for 1048576 frames/],
    ["millions of zero runs in a few bytes", numbers(4096, 0, 0, 2_000_000), /no room for 2000000 zero runs/],
    ["more hot frames than frames", numbers(4096, 0, 1), /number of hot frames is absurd/],
    ["a frame of 5 MiB", oneFrame({ count: 1280 }), /run of frame 0 is absurd/],
    [
      "a frame of 4 MiB and a page",
      oneFrame({ count: 1025 }),
      /absurd|more than 4194304 bytes|not in the image/,
    ],
    ["a frame of 16 MiB of compressed bytes", oneFrame({ size: 16 * 2 ** 20 }), /size of frame 0 is absurd/],
    ["a frame that is larger than its pages", oneFrame({ size: 9000 }), /cannot have 9000 bytes/],
    ["a frame without pages", oneFrame({ runs: 0 }), /frame 0 has no pages/],
    ["a page past the end of the image", oneFrame({ page: 100 }), /page 100, which is not in the image/],
    ["a page before its begin", oneFrame({ page: -1 }), /page -1, which is not in the image/],
    ["a run over the end of the image", oneFrame({ page: 99, count: 2 }), /not in the image/],
    ["a page that is there and zero", oneFrame({ page: 7, zeros: [7] }), /page 7 is in it twice/],
    ["a zero page past the end", oneFrame({ zeros: [100] }), /zero page 100 is not in the image/],
    ["frames that end before the index", oneFrame({ size: 19 }), /frames have 19 bytes/],
    ["frames that go on into the index", oneFrame({ size: 21 }), /frames have 21 bytes/],
    ["something behind it", Buffer.concat([oneFrame({}), Buffer.from([0])]), /1 bytes follow its index/],
    ["a number of ten bytes", Buffer.alloc(10, 0x80), /too long|ends within/],
    ["a number that is padded", Buffer.from([0x80, 0x00]), /not in its shortest form/],
    ["nothing", Buffer.alloc(0), /ends within the size of the image/],
  ];

  it("is accepted when it is sound", () => {
    const tail = tailOf(oneFrame({ page: 99 }));
    expect(parseIndex(tail, refOf(tail, 20))).toMatchObject({ dataBytes: pageBytes });
  });

  it.each(cases)("is refused with %s, and says so", (_, record, reason) => {
    const tail = tailOf(record);
    expect(() => parseIndex(tail, refOf(tail, 20), { subject: "the blob" })).toThrow(
      expect.objectContaining({
        code: "corrupt",
        subject: "the blob",
        reason: expect.stringMatching(reason),
      }),
    );
  });

  it("is refused with the same page in two frames", () => {
    const record = numbers(100 * pageBytes, 2, 0, 10, 10, 1, 2 * 7, 0, 1, 1, 0, 0);
    const tail = tailOf(Buffer.concat([record, Buffer.alloc(64)]));
    expect(() => parseIndex(tail, refOf(tail, 20))).toThrow(/page 7 is in it twice/);
  });

  it("of another version, or with features that are not known, is incompatible and not corrupt", () => {
    for (const edit of [
      (footer: Buffer) => footer.writeUInt16LE(2, 48),
      (footer: Buffer) => footer.writeUInt16LE(1, 50),
    ]) {
      const tail = tailOf(oneFrame({}), edit);
      expect(() => parseIndex(tail, refOf(tail, 20))).toThrow(
        expect.objectContaining({ code: "incompatible", hint: expect.stringContaining("version") }),
      );
    }
  });

  it("with features that readers need not know is read", () => {
    const tail = tailOf(oneFrame({}), (footer) => footer.writeUInt32LE(0xff, 52));
    expect(parseIndex(tail, refOf(tail, 20)).frames).toHaveLength(1);
  });

  it("of absurd size is refused by the footer alone", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "blob");
    for (const [at, value] of [
      [8, 2 ** 32 - 1],
      [12, 2 ** 32 - 1],
      [8, 1000],
    ] as const) {
      const tail = tailOf(oneFrame({}), (footer) => footer.writeUInt32LE(value, at));
      await writeFile(path, tail);
      await expect(readIndex(path)).rejects.toMatchObject({ code: "corrupt" });
    }
  });

  it("whose bytes are not those that were asked for is refused", () => {
    const tail = tailOf(oneFrame({}));
    const ref = refOf(tail, 20);
    expect(() => parseIndex(tail.subarray(1), ref)).toThrow(/instead of/);
    expect(() => parseIndex(tail, { ...ref, digest: `sha256:${"0".repeat(64)}` })).toThrow(/not those of/);
    expect(() => parseIndex(tail, { ...ref, offset: -1 })).toThrow(/cannot begin/);
  });
});
