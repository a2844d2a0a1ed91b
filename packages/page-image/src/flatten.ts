import { pageBytes } from "@sporelet/host";
import type { BlobIndex } from "./blob-index.ts";
import { pagesIn } from "./format.ts";
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

interface Placed extends FrameWrite {
  frame: number;
}

/**
 * Lays a chain's blobs, base first, over one another: for each page the last blob that says something about it wins.
 * What lay past the end of an image in the middle of the chain is gone, even if the image grows again later.
 */
export function flatten(indexes: readonly BlobIndex[]): FlatImage {
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
    decided = uniteRuns(decided, uniteRuns(placed, index.zeroRuns));
    decided = uniteRuns(decided, [{ page: pagesIn(index.imageBytes), count: Number.POSITIVE_INFINITY }]);
  }
  const frames = layers.flat();
  const dataBytes = frames.reduce(
    (sum, { writes }) => sum + writes.reduce((n, { count }) => n + count, 0),
    0,
  );
  return { imageBytes, dataBytes: dataBytes * pageBytes, frames, zeroRuns, frameOf: pageFinder(frames) };
}

/** All runs of a blob, by page. */
function placedRuns(index: BlobIndex): Placed[] {
  const placed: Placed[] = [];
  index.frames.forEach(({ runs }, frame) => {
    let at = 0;
    for (const { page, count } of runs) {
      placed.push({ page, count, frame, at });
      at += count * pageBytes;
    }
  });
  return placed.sort((a, b) => a.page - b.page);
}

function visibleWrites(placed: readonly Placed[], decided: readonly PageRun[]): Map<number, FrameWrite[]> {
  const writes = new Map<number, FrameWrite[]>();
  let i = 0;
  for (const { page, count } of subtractRuns(placed, decided)) {
    // Each piece is a part of one run, and both lists are ascending.
    while ((placed[i]?.page ?? 0) + (placed[i]?.count ?? 0) <= page) i++;
    const run = placed[i] as Placed;
    const own = writes.get(run.frame);
    const write = { page, count, at: run.at + (page - run.page) * pageBytes };
    if (own === undefined) writes.set(run.frame, [write]);
    else own.push(write);
  }
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
  const all = frames.flatMap(({ writes }, position) =>
    writes.map(({ page, count }) => ({ page, count, position })),
  );
  all.sort((a, b) => a.page - b.page);
  return {
    starts: Float64Array.from(all, ({ page }) => page),
    ends: Float64Array.from(all, ({ page, count }) => page + count),
    positions: Uint32Array.from(all, ({ position }) => position),
  };
}
