import { createHash } from "node:crypto";
import { SporeletError } from "@sporelet/errors";
import { chunkBytes, digestTag } from "./chunks.ts";
import type { Digest } from "./types.ts";

/** What one chunk holds; chunks that are all zero have no entry. */
export interface ChunkEntry {
  /** SHA-256, 32 bytes. */
  digest: Buffer;
  /** Bytes in pages that are not zero. */
  usedBytes: number;
}

/**
 * The digests of an image's chunks: what the digest of the image is made of. Kept beside an image, it makes the
 * digest of a child that changed little cost little. 40 bytes for each MiB of the image that is not zero.
 */
export interface ChunkTable {
  readonly imageBytes: number;
  /** Of the image. It is computed from the table, so a table that belongs to an image is told by it. */
  readonly digest: Digest;
  readonly usedBytes: number;
  /** By the number of the chunk, ascending. */
  readonly chunks: ReadonlyMap<number, ChunkEntry>;
  toBuffer(): Buffer;
}

/** @param entries by the number of the chunk, in any order. */
export function chunkTable(imageBytes: number, entries: Iterable<[number, ChunkEntry]>): ChunkTable {
  const chunks = new Map([...entries].sort(([a], [b]) => a - b));
  const hash = createHash("sha256").update(digestTag).update(number64(imageBytes));
  let usedBytes = 0;
  for (const [chunk, entry] of chunks) {
    hash.update(number64(chunk)).update(entry.digest);
    usedBytes += entry.usedBytes;
  }
  const digest: Digest = `sha256:${hash.digest("hex")}`;
  return { imageBytes, digest, usedBytes, chunks, toBuffer: () => encode(imageBytes, chunks) };
}

const magic = Buffer.from("SPORECT2");
const headBytes = magic.length + 8;
const entryBytes = 4 + 4 + 32;

function encode(imageBytes: number, chunks: ReadonlyMap<number, ChunkEntry>): Buffer {
  const buffer = Buffer.alloc(headBytes + chunks.size * entryBytes);
  magic.copy(buffer);
  let at = buffer.writeBigUInt64LE(BigInt(imageBytes), magic.length);
  for (const [chunk, { digest, usedBytes }] of chunks) {
    at = buffer.writeUInt32LE(chunk, at);
    at = buffer.writeUInt32LE(usedBytes, at);
    at += digest.copy(buffer, at);
  }
  return buffer;
}

/**
 * Reads what `toBuffer` wrote. That it belongs to an image is for the caller to see, by comparing `digest`.
 *
 * @throws SporeletError `corrupt` when the bytes are not a table.
 */
export function parseChunkTable(bytes: Buffer): ChunkTable {
  const fail = (reason: string) =>
    new SporeletError({ code: "corrupt", operation: "read the chunk table", reason });
  if (bytes.length < headBytes || !bytes.subarray(0, magic.length).equals(magic)) {
    throw fail("it does not begin like one");
  }
  if ((bytes.length - headBytes) % entryBytes !== 0) throw fail("it is cut short");
  const imageBytes = Number(bytes.readBigUInt64LE(magic.length));
  const chunkCount = Math.ceil(imageBytes / chunkBytes);
  if (!Number.isSafeInteger(imageBytes)) throw fail("the size of its image is absurd");
  const entries: [number, ChunkEntry][] = [];
  let previous = -1;
  for (let at = headBytes; at < bytes.length; at += entryBytes) {
    const chunk = bytes.readUInt32LE(at);
    const usedBytes = bytes.readUInt32LE(at + 4);
    if (chunk <= previous || chunk >= chunkCount) throw fail(`its entry for chunk ${chunk} is out of order`);
    if (usedBytes === 0 || usedBytes > chunkBytes) throw fail(`chunk ${chunk} cannot use ${usedBytes} bytes`);
    entries.push([chunk, { usedBytes, digest: Buffer.from(bytes.subarray(at + 8, at + entryBytes)) }]);
    previous = chunk;
  }
  return chunkTable(imageBytes, entries);
}

function number64(value: number): Buffer {
  const buffer = Buffer.allocUnsafe(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}
