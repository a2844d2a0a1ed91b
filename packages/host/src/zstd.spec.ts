import { createHash } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sha256 } from "./sha256.ts";
import { zstdCompressor, zstdDecompressInto } from "./zstd.ts";

const contents = fc
  .tuple(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 300 }))
  .map(([bytes, times]) => Buffer.concat(Array<Uint8Array>(times).fill(bytes)));

describe("zstd on other threads", () => {
  it("makes frames that Node's own decoder reads, and reads those of Node's encoder", async () => {
    using compressor = zstdCompressor(3, 300 * 300);
    await fc.assert(
      fc.asyncProperty(contents, async (content) => {
        const compressed = Buffer.from(await compressor.compress(content));
        expect(zstdDecompressSync(compressed).equals(content)).toBe(true);
        const into = Buffer.alloc(content.length);
        await zstdDecompressInto(into, zstdCompressSync(content));
        expect(into.equals(content)).toBe(true);
      }),
    );
  });

  it("says the content's size in the frame's header", async () => {
    using compressor = zstdCompressor(3, 100_000);
    const header = await compressor.compress(Buffer.alloc(100_000, 1));
    // RFC 8878, section 3.1.1: the descriptor announces four bytes of size, and no window.
    expect(header[4]).toBe(0b1010_0000);
    expect(header.readUInt32LE(5)).toBe(100_000);
  });

  it("takes nothing that is damaged, of another size, or followed by something else", async () => {
    const content = Buffer.from("what is compressed ".repeat(1000));
    const compressed = zstdCompressSync(content);
    const cases = [
      compressed.subarray(0, -1),
      compressed.subarray(1),
      Buffer.concat([compressed, Buffer.from("more")]),
      zstdCompressSync(content.subarray(1)),
      zstdCompressSync(Buffer.concat([content, Buffer.from("x")])),
      Buffer.alloc(0),
    ];
    for (const input of cases) {
      await expect(zstdDecompressInto(Buffer.alloc(content.length), input)).rejects.toThrow(/zstd/);
    }
  });

  it("compresses with several compressors at once", async () => {
    const inputs = Array.from({ length: 8 }, (_, i) => Buffer.alloc(200_000, `${i} and `));
    const outputs = await Promise.all(
      inputs.map(async (input) => {
        using compressor = zstdCompressor(6, input.length);
        return Buffer.from(await compressor.compress(input));
      }),
    );
    expect(outputs.every((output, i) => zstdDecompressSync(output).equals(inputs[i] as Buffer))).toBe(true);
  });
});

describe("sha256", () => {
  it("is SHA-256, for large and small buffers and for parts of them", async () => {
    const lengths = fc.oneof(fc.nat(100), fc.integer({ min: 16_380, max: 16_390 }), fc.nat(300_000));
    await fc.assert(
      fc.asyncProperty(lengths, fc.nat(255), fc.nat(5), async (length, byte, cut) => {
        const buffer = Buffer.alloc(length + cut, byte);
        const expected = createHash("sha256").update(buffer.subarray(0, length)).digest();
        expect(await sha256(buffer, length)).toEqual(expected);
      }),
    );
  });
});
