import { pageBytes } from "@sporelet/host";
import type { Pool } from "./pool.ts";
import { appendPages } from "./runs.ts";
import type { PageRun } from "./types.ts";

/** Pages that are compressed together. */
export interface RawFrame {
  /** Ascending, and no two adjoin. */
  runs: PageRun[];
  /** The pages in the order of `runs`. */
  raw: Buffer;
  /** What `raw` is a part of. */
  buffer: Buffer;
}

/** Collects pages until they fill a frame. */
export class FrameBuilder {
  readonly #buffers: Pool<Buffer>;
  #buffer: Buffer | undefined;
  #pages = 0;
  /** In the order in which they came. */
  #pieces: PageRun[] = [];

  /** @param buffers of the size of a frame; those of frames that were taken are the taker's to give back. */
  constructor(buffers: Pool<Buffer>) {
    this.#buffers = buffers;
  }

  /** Copies as many of `count` pages as there is room for. @returns how many. */
  add(page: number, count: number, from: Buffer, at: number): number {
    this.#buffer ??= this.#buffers.take();
    const pages = Math.min(count, this.#buffer.length / pageBytes - this.#pages);
    from.copy(this.#buffer, this.#pages * pageBytes, at, at + pages * pageBytes);
    this.#pieces.push({ page, count: pages });
    this.#pages += pages;
    return pages;
  }

  get isFull(): boolean {
    return this.#pages * pageBytes === this.#buffer?.length;
  }

  /** The frame; the builder begins another. Undefined when it has no pages. */
  take(): RawFrame | undefined {
    const buffer = this.#buffer;
    if (buffer === undefined) return undefined;
    const length = this.#pages * pageBytes;
    const pieces = this.#pieces;
    this.#buffer = undefined;
    this.#pages = 0;
    this.#pieces = [];
    const ascending = pieces.every(({ page }, i) => i === 0 || page > (pieces[i - 1]?.page ?? 0));
    return ascending ? frameOf(pieces, buffer, length) : this.#sorted(pieces, buffer, length);
  }

  /** Neighbours compress better together, and the index is shorter. */
  #sorted(pieces: readonly PageRun[], from: Buffer, length: number): RawFrame {
    let offset = 0;
    const placed = pieces.map(({ page, count }) => {
      const at = offset;
      offset += count * pageBytes;
      return { page, count, at };
    });
    placed.sort((a, b) => a.page - b.page);
    const to = this.#buffers.take();
    offset = 0;
    for (const { count, at } of placed) offset += from.copy(to, offset, at, at + count * pageBytes);
    this.#buffers.give(from);
    return frameOf(placed, to, length);
  }
}

function frameOf(ascending: readonly PageRun[], buffer: Buffer, length: number): RawFrame {
  const runs: PageRun[] = [];
  for (const { page, count } of ascending) appendPages(runs, page, count);
  return { runs, raw: buffer.subarray(0, length), buffer };
}
