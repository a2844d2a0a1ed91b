import type { Extent, MappedRegion } from "@sporelet/host";
import type { MemoryRegion } from "./contract.ts";

/** What a clone's memory has that its base may not. */
export interface ChangedPages {
  /** Pages that are in the process, by their places in the memory file and in its order. */
  held: MappedRegion[];
  /** Stretches that nothing holds any more: they read as zeros. */
  zero: Extent[];
}

/**
 * Sorts the guest's memory by where its content is now. Where the file is mapped, and where anonymous memory
 * took its place, the process's own pages hold what is new; where it is something else, that holds it all; the
 * rest of what is no longer the file's is zero, as a discard left it.
 *
 * @param ownPages the private pages, present or swapped out, in some regions.
 */
export async function changedPages(
  regions: readonly MemoryRegion[],
  ownPages: (regions: readonly MappedRegion[]) => Promise<MappedRegion[]>,
): Promise<ChangedPages> {
  const inOrder = regions.toSorted((a, b) => a.offset - b.offset);
  const own = await ownPages(
    inOrder.filter(({ replaced }) => replaced === undefined || replaced === "anonymous"),
  );
  const whole = inOrder.filter(({ replaced }) => replaced === "other");
  const emptied = inOrder.filter(({ replaced }) => replaced === "anonymous" || replaced === "nothing");
  return {
    held: [...own, ...whole].sort((a, b) => a.offset - b.offset),
    zero: emptied.flatMap((region) => gaps(region, own)),
  };
}

/** The parts of a region that none of the runs covers, as stretches of the file. */
function gaps(region: MappedRegion, runs: readonly MappedRegion[]): Extent[] {
  const end = region.offset + region.bytes;
  const found: Extent[] = [];
  let at = region.offset;
  for (const { offset, bytes } of runs) {
    if (offset + bytes <= at) continue;
    if (offset >= end) break;
    if (offset > at) found.push({ offset: at, length: offset - at });
    at = offset + bytes;
  }
  if (at < end) found.push({ offset: at, length: end - at });
  return found;
}
