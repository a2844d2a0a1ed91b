import type { FileHandle } from "node:fs/promises";
import { nonZeroRuns, pageBytes, sha256 } from "@sporelet/host";
import type { ChunkEntry } from "./chunk-table.ts";
import { readPages } from "./sparse.ts";
import type { PageRun } from "./types.ts";

/** The unit that is hashed on its own. */
export const chunkBytes = 1024 * 1024;
export const chunkPages = chunkBytes / pageBytes;

/** What the digest of an image begins with, so that it is no digest of anything else. */
export const digestTag = Buffer.from("sporelet page image 2\n");

const bitmapBytes = chunkPages / 8;

/** Room for hashing one chunk. */
export function chunkBuffer(): Buffer {
  return Buffer.allocUnsafeSlow(bitmapBytes + chunkBytes);
}

/**
 * Hashes one chunk: SHA-256 over a bitmap of the pages that are not zero (page p of the chunk is bit p % 8 of
 * byte p / 8) and then these pages in order. Pages are whole: a last page that is shorter counts as
 * filled up with zeros.
 *
 * @param stored the pages of the chunk that may be other than zero, as numbers in the image.
 * @param buffer of `chunkBuffer`, the caller's until the promise settles.
 * @returns undefined when all pages are zero.
 */
export async function hashChunk(
  handle: FileHandle,
  chunk: number,
  stored: readonly PageRun[],
  buffer: Buffer,
  imageBytes: number,
): Promise<ChunkEntry | undefined> {
  buffer.fill(0, 0, bitmapBytes);
  let end = bitmapBytes;
  let usedBytes = 0;
  for (const run of stored) {
    const length = run.count * pageBytes;
    // Pages are read to where they are hashed; those behind a zero page move up.
    const start = end;
    await readPages(handle, buffer, start, run);
    for (const found of nonZeroRuns(buffer.subarray(start, start + length))) {
      const from = start + found.offset;
      if (from !== end) buffer.copyWithin(end, from, from + found.length);
      end += found.length;
      const first = run.page + found.offset / pageBytes;
      const count = found.length / pageBytes;
      setBits(buffer, first - chunk * chunkPages, count);
      usedBytes += Math.min((first + count) * pageBytes, imageBytes) - first * pageBytes;
    }
  }
  if (end === bitmapBytes) return undefined;
  return { digest: await sha256(buffer, end), usedBytes };
}

function setBits(bitmap: Buffer, first: number, count: number): void {
  for (let bit = first; bit < first + count; bit++) {
    bitmap[bit >> 3] = (bitmap[bit >> 3] ?? 0) | (1 << (bit & 7));
  }
}
