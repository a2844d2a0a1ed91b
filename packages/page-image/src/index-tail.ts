import { hash } from "node:crypto";
import { open } from "node:fs/promises";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { SporeletError } from "@sporelet/errors";
import type { BlobIndex, IndexRef } from "./blob-index.ts";
import { type ChainBudget, chainBudget, chainTooLarge, takeFrom } from "./chain.ts";
import {
  encodeFooter,
  type Footer,
  footerBytes,
  isSkippable,
  limits,
  parseFooter,
  skippable,
  skippableHeadBytes,
} from "./format.ts";
import { encodeIndexRecord, parseIndexRecord } from "./index-codec.ts";
import type { Digest } from "./types.ts";

/** An index is small, and read before anything else: it is worth the time. */
const level = 19;
/** Above this, level 19 would be felt. */
const smallIndexBytes = 256 * 1024;

const smallestTailBytes = skippableHeadBytes + footerBytes;
/** The largest `sizeBytes` of an index; what claims more need not be fetched. */
export const largestIndexBytes = smallestTailBytes + limits.indexBytes;

const operation = "read the index of";

/** A blob's tail: the index and the footer, each in a frame that zstd decoders skip. */
export function encodeTail(index: BlobIndex): { tail: Buffer; ref: IndexRef } {
  const record = encodeIndexRecord(index);
  const params = { [constants.ZSTD_c_compressionLevel]: record.length <= smallIndexBytes ? level : 6 };
  const compressed = zstdCompressSync(record, { params });
  const runCount = index.frames.reduce((sum, { runs }) => sum + runs.length, 0);
  if (
    record.length > limits.indexRawBytes ||
    compressed.length > limits.indexBytes ||
    index.frames.length > limits.frames ||
    Math.max(runCount, index.zeroRuns.length) > limits.runs
  ) {
    throw new SporeletError({
      code: "resource_exhausted",
      operation: "encode a page image",
      reason: "its pages are so scattered that the index would be too large",
    });
  }
  const footer = encodeFooter({
    indexBytes: compressed.length,
    indexRawBytes: record.length,
    indexDigest: hash("sha256", compressed, "buffer"),
  });
  const tail = Buffer.concat([skippable(compressed), footer]);
  const last = index.frames.at(-1);
  const offset = last === undefined ? 0 : last.offset + last.sizeBytes;
  return { tail, ref: { digest: digestOfBytes(tail), offset, sizeBytes: tail.length } };
}

/**
 * Reads a blob's tail, which was fetched by a range read.
 *
 * @param bytes `ref.sizeBytes` bytes of the blob from `ref.offset` on, to its end.
 * @param options.subject names the blob in errors.
 * @param options.budget of the chain that it is read for, which it takes its part from. Default: one of its own.
 * @throws SporeletError `corrupt` that says what is wrong: other bytes than `ref.digest` names, sizes outside of
 *   the format's limits, frames outside of the blob, pages outside of the image or twice. `incompatible` for a
 *   version of the format that is not known. `resource_exhausted` when the chain leaves no room for it. Nothing is
 *   allocated by sizes that were not checked.
 */
export function parseIndex(
  bytes: Buffer,
  ref: IndexRef,
  { subject, budget = chainBudget() }: { subject?: string; budget?: ChainBudget } = {},
): BlobIndex {
  const fail = corrupt(subject);
  if (ref.sizeBytes > largestIndexBytes) throw fail(`${ref.sizeBytes} bytes are absurd for it`);
  if (bytes.length !== ref.sizeBytes) {
    throw fail(`it has ${bytes.length} bytes instead of ${ref.sizeBytes}`);
  }
  if (digestOfBytes(bytes) !== ref.digest) throw fail(`its bytes are not those of ${ref.digest}`);
  if (!Number.isSafeInteger(ref.offset) || ref.offset < 0)
    throw fail(`it cannot begin at byte ${ref.offset}`);
  if (bytes.length < smallestTailBytes) throw fail("it is cut short");
  const indexBytes = bytes.length - smallestTailBytes;
  const footer = parseFooter(bytes.subarray(-footerBytes), fail);
  if (footer.indexBytes !== indexBytes || !isSkippable(bytes, 0, indexBytes)) {
    throw fail("its footer does not belong to what is before it");
  }
  const tooLarge = (what: keyof ChainBudget) => chainTooLarge(what, { operation, subject });
  const record = decompress(bytes, footer, fail);
  const index = parseIndexRecord(record, ref.offset, budget, { fail, tooLarge });
  takeFrom(budget, index);
  return index;
}

function decompress(tail: Buffer, footer: Footer, fail: (reason: string) => SporeletError): Buffer {
  const compressed = tail.subarray(skippableHeadBytes, skippableHeadBytes + footer.indexBytes);
  if (!hash("sha256", compressed, "buffer").equals(footer.indexDigest)) throw fail("its index is damaged");
  let record: Buffer;
  try {
    record = zstdDecompressSync(compressed, {
      maxOutputLength: Math.max(1, footer.indexRawBytes),
      params: { [constants.ZSTD_d_windowLogMax]: Math.log2(limits.indexRawBytes) },
    });
  } catch (error) {
    throw fail(`its index cannot be decompressed (${(error as Error).message})`);
  }
  if (record.length !== footer.indexRawBytes) {
    throw fail(`its index has ${record.length} bytes instead of ${footer.indexRawBytes}`);
  }
  return record;
}

/**
 * Reads the indexes of the blobs of a chain, base first. One after the other: all of them together are held to what
 * laying them over one another can bear, before room is made for any.
 *
 * @throws SporeletError like `readIndex`.
 */
export async function readChain(blobPaths: readonly string[]): Promise<{ path: string; index: BlobIndex }[]> {
  const budget = chainBudget();
  const blobs: { path: string; index: BlobIndex }[] = [];
  for (const path of blobPaths) blobs.push({ path, index: (await readIndex(path, budget)).index });
  return blobs;
}

/**
 * Reads the index of a blob in a file.
 *
 * @param budget as for `parseIndex`.
 * @throws SporeletError like `parseIndex`; `not_found`.
 */
export async function readIndex(
  blobPath: string,
  budget?: ChainBudget,
): Promise<{ ref: IndexRef; index: BlobIndex }> {
  try {
    await using handle = await open(blobPath, "r");
    const fail = corrupt(blobPath);
    const { size } = await handle.stat();
    if (size < smallestTailBytes) throw fail("it is too short to be a page image");
    const read = async (length: number) => {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, size - length);
      if (bytesRead !== length) throw fail("it was cut off while it was read");
      return buffer;
    };
    const { indexBytes } = parseFooter(await read(footerBytes), fail);
    const sizeBytes = smallestTailBytes + indexBytes;
    if (sizeBytes > size) throw fail("it is shorter than its index");
    const tail = await read(sizeBytes);
    const ref = { digest: digestOfBytes(tail), offset: size - sizeBytes, sizeBytes };
    return { ref, index: parseIndex(tail, ref, { subject: blobPath, ...(budget && { budget }) }) };
  } catch (error) {
    throw SporeletError.from(error, { operation, subject: blobPath });
  }
}

function corrupt(subject: string | undefined): (reason: string) => SporeletError {
  return (reason) =>
    new SporeletError({ code: "corrupt", operation, subject: subject ?? "a page image", reason });
}

function digestOfBytes(bytes: Buffer): Digest {
  return `sha256:${hash("sha256", bytes)}`;
}
