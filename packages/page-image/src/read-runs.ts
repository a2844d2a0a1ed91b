import type { FileHandle } from "node:fs/promises";
import { pageBytes } from "@sporelet/host";
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

/**
 * Reads runs in the order in which they are given, a mebibyte at a time: runs that lie close together with one read.
 * The buffer is used again when the next one is asked for.
 */
export async function* readRuns(
  handle: FileHandle,
  runs: Iterable<PageRun>,
  signal?: AbortSignal,
): AsyncGenerator<ReadRun[]> {
  const buffer = Buffer.allocUnsafeSlow(blockPages * pageBytes);
  for (const { pieces, ...block } of blocksOf(runs)) {
    signal?.throwIfAborted();
    await readPages(handle, buffer, 0, block);
    yield pieces.map((piece) => ({ ...piece, buffer, at: (piece.page - block.page) * pageBytes }));
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
