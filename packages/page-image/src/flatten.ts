import { pageBytes } from "@sporelet/host";
import type { BlobIndex } from "./blob-index.ts";
import { chainTooLarge, runsIn } from "./chain.ts";
import { limits, pagesIn } from "./format.ts";
import { orderByPage } from "./page-order.ts";
import { subtractRuns, uniteRuns } from "./runs.ts";
import type { PageRun } from "./types.ts";

/** Pages of a frame that go into the image. */
export interface FrameWrite extends PageRun {
  /** Where they begin in the decoded frame, in bytes. */
  at: number;
}

/** What of a frame is visible in the image. */
export interface FlatFrame {
  /** Position of its blob in the list that was flattened. */
  layer: number;
  /** Position in that blob's `frames`. */
  frame: number;
  /** By page, ascending. Never empty. */
  writes: readonly FrameWrite[];
  /** Size of the image: its last page may be a part of one. */
  imageBytes: number;
}

/** A chain of blobs as one image: which frame has which page. */
export interface FlatImage {
  imageBytes: number;
  /** Bytes in all `writes`; all other pages are zero. */
  dataBytes: number;
  /** By layer, and in the order in which the blob has them. Frames that are hidden by later layers are left out. */
  frames: readonly FlatFrame[];
  /** Pages that are zero because a blob says so; what the chain is laid upon may have something there. */
  zeroRuns: readonly PageRun[];
  /** Position in `frames` of the frame with a page; undefined for a page that is zero, or is not in the image. */
  frameOf(page: number): number | undefined;
}

/**
 * Lays a chain's blobs, base first, over one another: for each page the last blob that says something about it wins.
 * What lay past the end of an image in the middle of the chain is gone, even if the image grows again later.
 *
 * @throws SporeletError `resource_exhausted` when the chain has more than four million runs of pages.
 */
export function flatten(indexes: readonly BlobIndex[]): FlatImage {
  rejectTooManyRuns(indexes);
  const imageBytes = indexes.at(-1)?.imageBytes ?? 0;
  const layers: FlatFrame[][] = [];
  let zeroRuns: PageRun[] = [];
  // What the layers above have decided: by the pages that they name, and by where they end.
  let decided: PageRun[] = [{ page: pagesIn(imageBytes), count: Number.POSITIVE_INFINITY }];
  for (const [layer, index] of [...indexes.entries()].reverse()) {
    const placed = placedRuns(index);
    const writes = visibleWrites(placed, decided);
    layers.unshift(
      [...writes]
        .sort(([a], [b]) => a - b)
        .map(([frame, own]) => ({ layer, frame, writes: own, imageBytes })),
    );
    zeroRuns = uniteRuns(zeroRuns, subtractRuns(index.zeroRuns, decided));
    if (layer === 0) break;
    decided = uniteRuns(decided, uniteRuns(placed.runs, index.zeroRuns));
    decided = uniteRuns(decided, [{ page: pagesIn(index.imageBytes), count: Number.POSITIVE_INFINITY }]);
  }
  const frames = layers.flat();
  const dataBytes = frames.reduce(
    (sum, { writes }) => sum + writes.reduce((n, { count }) => n + count, 0),
    0,
  );
  return { imageBytes, dataBytes: dataBytes * pageBytes, frames, zeroRuns, frameOf: pageFinder(frames) };
}

function rejectTooManyRuns(indexes: readonly BlobIndex[]): void {
  const runCount = indexes.reduce((sum, index) => sum + runsIn(index), 0);
  if (runCount <= limits.chainRuns) return;
  throw chainTooLarge("runs", { operation: "lay a chain of page images over one another" });
}

/** All runs of a blob, by page, and where they are: in which frame, at which byte of it. */
interface PlacedRuns {
  runs: readonly PageRun[];
  frames: Uint32Array;
  offsets: Uint32Array;
}

function placedRuns(index: BlobIndex): PlacedRuns {
  const all: PageRun[] = [];
  const frameOfRun: number[] = [];
  const offsetOfRun: number[] = [];
  index.frames.forEach(({ runs }, frame) => {
    let at = 0;
    for (const run of runs) {
      all.push(run);
      frameOfRun.push(frame);
      offsetOfRun.push(at);
      at += run.count * pageBytes;
    }
  });
  const order = orderByPage(all.length, (i) => all[i]?.page ?? 0);
  return {
    runs: Array.from(order, (i) => all[i] as PageRun),
    frames: order.map((i) => frameOfRun[i] as number),
    offsets: order.map((i) => offsetOfRun[i] as number),
  };
}

/** What of a blob's runs no later blob has decided, by frame. */
function visibleWrites(
  { runs, frames, offsets }: PlacedRuns,
  decided: readonly PageRun[],
): Map<number, FrameWrite[]> {
  const writes = new Map<number, FrameWrite[]>();
  const add = (i: number, page: number, count: number) => {
    const frame = frames[i] as number;
    const at = (offsets[i] as number) + (page - (runs[i]?.page ?? 0)) * pageBytes;
    const own = writes.get(frame);
    if (own === undefined) writes.set(frame, [{ page, count, at }]);
    else own.push({ page, count, at });
  };
  let next = 0;
  runs.forEach(({ page, count }, i) => {
    const end = page + count;
    let start = page;
    for (; start < end; next++) {
      const later = decided[next];
      if (later === undefined || later.page >= end) break;
      if (later.page > start) add(i, start, later.page - start);
      start = Math.max(start, later.page + later.count);
      if (later.page + later.count > end) break; // The rest of it may hide the next run.
    }
    if (start < end) add(i, start, end - start);
  });
  return writes;
}

function pageFinder(frames: readonly FlatFrame[]): (page: number) => number | undefined {
  let table: { starts: Float64Array; ends: Float64Array; positions: Uint32Array } | undefined;
  return (page) => {
    table ??= pageTable(frames); // Not every caller asks.
    const { starts, ends, positions } = table;
    let low = 0;
    for (let high = starts.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if ((starts[middle] as number) <= page) low = middle + 1;
      else high = middle;
    }
    return low > 0 && page < (ends[low - 1] as number) ? positions[low - 1] : undefined;
  };
}

/** All writes by page. */
function pageTable(frames: readonly FlatFrame[]) {
  const writes: FrameWrite[] = [];
  const frameOfWrite: number[] = [];
  frames.forEach((frame, position) => {
    for (const write of frame.writes) {
      writes.push(write);
      frameOfWrite.push(position);
    }
  });
  const order = orderByPage(writes.length, (i) => writes[i]?.page ?? 0);
  const sorted = Array.from(order, (i) => writes[i] as FrameWrite);
  return {
    starts: Float64Array.from(sorted, ({ page }) => page),
    ends: Float64Array.from(sorted, ({ page, count }) => page + count),
    positions: order.map((i) => frameOfWrite[i] as number),
  };
}
