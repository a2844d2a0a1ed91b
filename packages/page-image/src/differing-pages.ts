import { type FileHandle, open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { pageBytes } from "@sporelet/host";
import { pagesIn } from "./format.ts";
import { inLanes } from "./parallel.ts";
import { type Block, blockPages, blocksOf } from "./read-runs.ts";
import { appendPages, intersectRuns, normalizeRuns, subtractRuns, uniteRuns } from "./runs.ts";
import { pagesWithSameBlocks } from "./same-blocks.ts";
import { readPages, storedPages } from "./sparse.ts";
import type { PageRun } from "./types.ts";

export interface DifferingOptions {
  /** Look at these pages only. Default: all. */
  within?: readonly PageRun[] | undefined;
  signal?: AbortSignal | undefined;
}

/** Blocks that are read at the same time. */
const lanes = 3;

/**
 * The pages of an image that have other content than those of its base; holes are zeros, and so is what lies
 * past the end of the base. Pages that share their blocks with the base (reflinks, on XFS and Btrfs) are not read, nor
 * are holes of both; all others are compared. Neither file may change meanwhile.
 *
 * @throws SporeletError `not_found`, `cancelled`.
 */
export async function differingPages(
  image: string,
  base: string,
  options: DifferingOptions = {},
): Promise<PageRun[]> {
  const { signal } = options;
  try {
    await using ours = await open(image, "r");
    await using theirs = await open(base, "r");
    const candidates = await pagesToCompare(ours, theirs, options);
    const differing: PageRun[] = [];
    const buffers = Array.from({ length: lanes }, () => ({ ours: blockBuffer(), theirs: blockBuffer() }));
    const work = async (block: Block, lane: number) => {
      const buffer = buffers[lane] as (typeof buffers)[number];
      await Promise.all([readPages(ours, buffer.ours, 0, block), readPages(theirs, buffer.theirs, 0, block)]);
      differing.push(...differingIn(block, buffer.ours, buffer.theirs));
    };
    await inLanes(blocksOf(candidates), lanes, work, signal);
    return normalizeRuns(differing);
  } catch (error) {
    throw SporeletError.from(error, { operation: "compare with its base the page image", subject: image });
  }
}

async function pagesToCompare(
  ours: FileHandle,
  theirs: FileHandle,
  { within, signal }: DifferingOptions,
): Promise<PageRun[]> {
  const [{ size }, { size: baseSize }] = [await ours.stat(), await theirs.stat()];
  const stored = uniteRuns(await storedPages(ours), await storedPages(theirs));
  const inside = intersectRuns(stored, [{ page: 0, count: pagesIn(size) }]);
  const wanted = within === undefined ? inside : intersectRuns(inside, normalizeRuns(within));
  if (wanted.length === 0) return [];
  // A page that either file ends in is compared: the rest of its block may hold anything.
  const whole = Math.floor(Math.min(size, baseSize) / pageBytes);
  const same = intersectRuns(await pagesWithSameBlocks(ours, theirs, signal), [{ page: 0, count: whole }]);
  return subtractRuns(wanted, same);
}

function blockBuffer(): Buffer {
  return Buffer.allocUnsafeSlow(blockPages * pageBytes);
}

function differingIn({ page: first, pieces }: Block, ours: Buffer, theirs: Buffer): PageRun[] {
  const differing: PageRun[] = [];
  for (const { page, count } of pieces) {
    const start = (page - first) * pageBytes;
    const end = start + count * pageBytes;
    // One call for what is mostly equal.
    if (ours.compare(theirs, start, end, start, end) === 0) continue;
    for (let at = start; at < end; at += pageBytes) {
      const stop = at + pageBytes;
      if (ours.compare(theirs, at, stop, at, stop) !== 0) appendPages(differing, first + at / pageBytes, 1);
    }
  }
  return differing;
}
