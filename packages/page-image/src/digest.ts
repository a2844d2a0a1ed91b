import { open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { type ChunkEntry, type ChunkTable, chunkTable } from "./chunk-table.ts";
import { chunkBuffer, chunkBytes, chunkPages, hashChunk } from "./chunks.ts";
import { inLanes } from "./parallel.ts";
import { normalizeRuns } from "./runs.ts";
import { storedPages } from "./sparse.ts";
import type { Digest, PageRun } from "./types.ts";

export interface ImageDigest {
  digest: Digest;
  /** Bytes in pages that are not zero. */
  usedBytes: number;
  /** For the digests of images that come from this one. */
  table: ChunkTable;
}

export interface DigestOptions {
  signal?: AbortSignal | undefined;
  /** An image that this one differs little from; only chunks with changed pages are read. */
  base?:
    | {
        /** Of that image. */
        table: ChunkTable;
        /** All pages whose content is not that image's, and maybe others. Past its end all were zero. */
        changed: readonly PageRun[];
      }
    | undefined;
}

/** Chunks in flight: enough to keep both threads hashing while others are read. */
const lanes = 4;

/**
 * The digest of a page image (version 2, docs/formats/page-image.md). The image is cut in chunks of 1 MiB. A
 * chunk's digest is SHA-256 over which of its pages are not zero, and these pages; the image's is SHA-256
 * over a tag, the image's size, and number and digest of each chunk that is not zero. Equal content has an equal
 * digest, whether zeros are stored or are holes, and the cost follows the data and not the size; it is
 * spread over threads. A last page shorter than 4 KiB counts as filled up with zeros.
 *
 * @throws SporeletError `not_found`, `cancelled`.
 */
export async function digestOf(path: string, options: DigestOptions = {}): Promise<ImageDigest> {
  const { base, signal } = options;
  try {
    await using handle = await open(path, "r");
    const { size: imageBytes } = await handle.stat();
    const chunks = new Map<number, ChunkEntry>();
    const stale = base && staleChunks(base, imageBytes);
    if (base !== undefined) {
      for (const [chunk, entry] of base.table.chunks) {
        if (chunk * chunkBytes < imageBytes && !stale?.has(chunk)) chunks.set(chunk, entry);
      }
    }
    const buffers = Array.from({ length: lanes }, chunkBuffer);
    const work = async ({ chunk, runs }: ChunkWork, lane: number) => {
      const buffer = buffers[lane] as Buffer;
      const entry = await hashChunk(handle, chunk, runs, buffer, imageBytes);
      if (entry !== undefined) chunks.set(chunk, entry);
    };
    await inLanes(chunkWork(await storedPages(handle), stale), lanes, work, signal);
    const table = chunkTable(imageBytes, chunks);
    return { digest: table.digest, usedBytes: table.usedBytes, table };
  } catch (error) {
    throw SporeletError.from(error, { operation: "compute the digest of", subject: path });
  }
}

/** Chunks of which the base's digest may not hold for the image. */
function staleChunks(base: NonNullable<DigestOptions["base"]>, imageBytes: number): Set<number> {
  const stale = new Set<number>();
  for (const { page, count } of normalizeRuns(base.changed)) {
    const last = Math.floor((page + count - 1) / chunkPages);
    for (let chunk = Math.floor(page / chunkPages); chunk <= last; chunk++) stale.add(chunk);
  }
  if (base.table.imageBytes !== imageBytes) {
    // The chunk that either of them ends in was whole in one and cut in the other.
    stale.add(Math.floor(imageBytes / chunkBytes)).add(Math.floor(base.table.imageBytes / chunkBytes));
  }
  return stale;
}

interface ChunkWork {
  chunk: number;
  /** Pages of the chunk. */
  runs: PageRun[];
}

/** The chunks that have stored pages, of those that are wanted, with these pages. */
function* chunkWork(stored: readonly PageRun[], wanted: Set<number> | undefined): Generator<ChunkWork> {
  let current: ChunkWork | undefined;
  for (const run of stored) {
    const end = run.page + run.count;
    for (let page = run.page; page < end; ) {
      const chunk = Math.floor(page / chunkPages);
      const stop = Math.min(end, (chunk + 1) * chunkPages);
      if (current?.chunk !== chunk) {
        if (current !== undefined) yield current;
        current = wanted === undefined || wanted.has(chunk) ? { chunk, runs: [] } : undefined;
      }
      current?.runs.push({ page, count: stop - page });
      page = stop;
    }
  }
  if (current !== undefined) yield current;
}
