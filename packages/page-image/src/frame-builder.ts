import { pageBytes } from "@sporelet/host";
import { appendPages } from "./runs.ts";
import type { PageRun } from "./types.ts";

/** Pages that are compressed together. */
export interface RawFrame {
  /** Ascending, and no two adjoin. */
  runs: PageRun[];
  /** The pages in the order of `runs`. */
  raw: Buffer;
}

/** Collects pages until they fill a frame. */
export class FrameBuilder {
  readonly #capacity: number;
  #buffer: Buffer;
  #pages = 0;
  /** In the order in which they came. */
  #pieces: PageRun[] = [];

  /** @param capacity in pages. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#buffer = Buffer.allocUnsafeSlow(capacity * pageBytes);
  }

  /** How many more pages the frame takes. */
  get room(): number {
    return this.#capacity - this.#pages;
  }

  /** Copies pages, at most `room`. */
  add(page: number, count: number, from: Buffer, at: number): void {
    from.copy(this.#buffer, this.#pages * pageBytes, at, at + count * pageBytes);
    this.#pieces.push({ page, count });
    this.#pages += count;
  }

  /** The frame, which is the caller's; the builder begins another. Undefined when it has no pages. */
  take(): RawFrame | undefined {
    if (this.#pages === 0) return undefined;
    const raw = this.#buffer.subarray(0, this.#pages * pageBytes);
    const pieces = this.#pieces;
    this.#buffer = Buffer.allocUnsafeSlow(this.#capacity * pageBytes);
    this.#pages = 0;
    this.#pieces = [];
    return inOrder(pieces, raw);
  }
}

/** Sorts pages: neighbours compress better together, and the index is shorter. */
function inOrder(pieces: PageRun[], raw: Buffer): RawFrame {
  const runs: PageRun[] = [];
  if (pieces.every(({ page }, i) => i === 0 || page > (pieces[i - 1]?.page ?? 0))) {
    for (const { page, count } of pieces) appendPages(runs, page, count);
    return { runs, raw };
  }
  let from = 0;
  const placed = pieces.map(({ page, count }) => {
    const at = from;
    from += count * pageBytes;
    return { page, count, at };
  });
  const sorted = Buffer.allocUnsafeSlow(raw.length);
  let to = 0;
  for (const { page, count, at } of placed.sort((a, b) => a.page - b.page)) {
    to += raw.copy(sorted, to, at, at + count * pageBytes);
    appendPages(runs, page, count);
  }
  return { runs, raw: sorted };
}
