import { createHash } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { describe, expect, it, vi } from "vitest";
import { sha256 } from "./sha256.ts";
import { zstdCompressor, zstdDecompressInto } from "./zstd.ts";

// A build of Node that links its libraries dynamically, as distributions do, need not export their functions.
vi.mock("./native.ts", () => ({ nativeFunction: () => undefined }));

describe("without the libraries inside of Node", () => {
  const content = Buffer.from("what is compressed ".repeat(20_000));

  it("zstd works all the same", async () => {
    using compressor = zstdCompressor(3, content.length);
    const compressed = await compressor.compress(content);
    expect(zstdDecompressSync(compressed).equals(content)).toBe(true);
    const into = Buffer.alloc(content.length);
    await zstdDecompressInto(into, compressed);
    expect(into.equals(content)).toBe(true);
  });

  it("zstd takes nothing that is damaged or of another size", async () => {
    const compressed = zstdCompressSync(content);
    const cases = [
      compressed.subarray(0, -1),
      compressed.subarray(1),
      zstdCompressSync(content.subarray(1)),
      zstdCompressSync(Buffer.concat([content, Buffer.from("x")])),
      Buffer.alloc(0),
    ];
    for (const input of cases) {
      await expect(zstdDecompressInto(Buffer.alloc(content.length), input)).rejects.toThrow();
    }
  });

  it("SHA-256 is the same", async () => {
    expect(await sha256(content)).toEqual(createHash("sha256").update(content).digest());
  });
});
