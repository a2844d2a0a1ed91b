import type { FileHandle } from "node:fs/promises";
import { pageBytes } from "@sporelet/host";
import { mapInOrder } from "./ordered.ts";
import { Pool } from "./pool.ts";
import { piecesOf } from "./runs.ts";
import { readPages } from "./sparse.ts";
import type { PageRun } from "./types.ts";

/** What one read takes at most. */
export const blockPages = 256;
/** Reading so much that is not wanted costs no more than another read. */
const gapPages = 32;

/** Pages that were read: `count` pages from `page` on, at byte `at` of a buffer. */
export interface ReadRun extends PageRun {
  buffer: Buffer;
  at: number;
}

/** Reads under way, so that they need not wait for the threads that compress. */
const ahead = 4;

/**
 * Reads runs in the order in which they are given, a mebibyte at a time: runs that lie close together with one read.
 * The buffer is used again after the next one was asked for.
 */
export async function* readRuns(
  handle: FileHandle,
  runs: Iterable<PageRun>,
  signal?: AbortSignal,
): AsyncGenerator<ReadRun[]> {
  const buffers = new Pool<Buffer>(() => Buffer.allocUnsafeSlow(blockPages * pageBytes));
  const read = async (block: Block) => {
    signal?.throwIfAborted();
    const buffer = buffers.take();
    await readPages(handle, buffer, 0, block);
    return { block, buffer };
  };
  for await (const { block, buffer } of mapInOrder(blocksOf(runs), ahead, read)) {
    yield block.pieces.map((piece) => ({ ...piece, buffer, at: (piece.page - block.page) * pageBytes }));
    buffers.give(buffer);
  }
}

/** What one read takes. */
export interface Block extends PageRun {
  /** The pages of it that are wanted. */
  pieces: PageRun[];
}

/** Groups runs, in their order, into what is read at once. */
export function* blocksOf(runs: Iterable<PageRun>): Generator<Block> {
  let block: Block | undefined;
  for (const piece of piecesOf(runs, blockPages)) {
    const end = piece.page + piece.count;
    if (
      block !== undefined &&
      piece.page >= block.page + block.count &&
      piece.page <= block.page + block.count + gapPages &&
      end - block.page <= blockPages
    ) {
      block.pieces.push(piece);
      block.count = end - block.page;
    } else {
      if (block !== undefined) yield block;
      block = { ...piece, pieces: [piece] };
    }
  }
  if (block !== undefined) yield block;
}
