import { createHash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";

const pageBytes = 4096;

/** What a blob says, for each page that it says something about: its content, or that it is zero. */
export interface NaiveBlob {
  imageBytes: number;
  pages: Map<number, Buffer>;
  /** Page numbers by frame. */
  frames: number[][];
  hotFrames: number;
}

/**
 * Reads a blob as docs/formats/page-image.md says, word by word: what another implementation would make of it. It shares no
 * code with the real reader, and holds nothing to limits.
 */
export function readNaively(blob: Buffer): NaiveBlob {
  const footer = blob.subarray(-64);
  must(footer.readUInt32LE(0) === 0x184d2a50 && footer.readUInt32LE(4) === 56, "footer frame");
  must(footer.subarray(56).toString() === "SPOREPGI", "magic");
  must(footer.readUInt16LE(48) === 1 && footer.readUInt16LE(50) === 0, "version and features");
  const indexBytes = footer.readUInt32LE(8);
  const indexStart = blob.length - 64 - indexBytes;
  const index = blob.subarray(indexStart, indexStart + indexBytes);
  must(blob.readUInt32LE(indexStart - 8) === 0x184d2a50, "index frame");
  must(blob.readUInt32LE(indexStart - 4) === indexBytes, "size of the index frame");
  must(sha256(index).equals(footer.subarray(16, 48)), "digest of the index");
  const record = zstdDecompressSync(index);
  must(record.length === footer.readUInt32LE(12), "size of the record");

  let at = 0;
  const number = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = record[at++] ?? 0;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  const imageBytes = number();
  const frameCount = number();
  const hotFrames = number();
  const sizes = Array.from({ length: frameCount }, number);
  let end = 0;
  const frames = Array.from({ length: frameCount }, () => {
    const pages: number[] = [];
    const runs = number();
    for (let run = 0; run < runs; run++) {
      const code = number();
      const distance = run > 0 ? code + 1 : code % 2 === 0 ? code / 2 : -(code + 1) / 2;
      const start = end + distance;
      end = start + number() + 1;
      for (let page = start; page < end; page++) pages.push(page);
    }
    return pages;
  });
  const pages = new Map<number, Buffer>();
  const zeroRuns = number();
  end = -1;
  for (let run = 0; run < zeroRuns; run++) {
    const start = end + 1 + number();
    end = start + number() + 1;
    for (let page = start; page < end; page++) pages.set(page, Buffer.alloc(pageBytes));
  }
  let offset = 0;
  for (const [n, size] of sizes.entries()) {
    const compressed = blob.subarray(offset, offset + size);
    offset += size;
    must(sha256(compressed).equals(record.subarray(at, at + 32)), `digest of frame ${n}`);
    at += 32;
    const raw = zstdDecompressSync(compressed);
    must(raw.length === (frames[n]?.length ?? 0) * pageBytes, `size of frame ${n}`);
    frames[n]?.forEach((page, i) => {
      must(!pages.has(page), `page ${page} once`);
      pages.set(page, raw.subarray(i * pageBytes, (i + 1) * pageBytes));
    });
  }
  must(at === record.length, "end of the record");
  must(offset === indexStart - 8, "end of the frames");
  return { imageBytes, pages, frames, hotFrames };
}

/** The image that a chain makes. */
export function applyNaively(blobs: readonly Buffer[]): Buffer {
  let image = Buffer.alloc(0);
  for (const { imageBytes, pages } of blobs.map(readNaively)) {
    const next = Buffer.alloc(imageBytes);
    image.copy(next);
    for (const [page, content] of pages) content.copy(next, page * pageBytes);
    image = next;
  }
  return image;
}

function sha256(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`not as specified: ${what}`);
}
