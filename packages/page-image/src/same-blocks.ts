import type { FileHandle } from "node:fs/promises";
import { type PhysicalExtent, pageBytes, physicalExtents } from "@sporelet/host";
import { appendPages } from "./runs.ts";
import type { PageRun } from "./types.ts";

/**
 * The pages for which two files have the same blocks at the same place, as a reflink and its source do until one of
 * them is written to; they need not be read to know that they are equal. An empty list where the file system
 * cannot tell. What the first file has not written to the disk yet is written: until then XFS says
 * that a page is shared which has been changed in memory.
 */
export async function pagesWithSameBlocks(
  image: FileHandle,
  base: FileHandle,
  signal?: AbortSignal,
): Promise<PageRun[]> {
  if ((await image.stat()).dev !== (await base.stat()).dev) return [];
  const theirs = await physicalExtents(base, { signal });
  // The base is there for longer: if it shares nothing, the image need not be synced to find that out.
  if (theirs === undefined || !theirs.some(({ shared }) => shared)) return [];
  const ours = await physicalExtents(image, { signal });
  return ours === undefined ? [] : sameBlocks(ours, theirs);
}

/** The pages that two lists of extents, each in order, place at the same address. */
export function sameBlocks(a: readonly PhysicalExtent[], b: readonly PhysicalExtent[]): PageRun[] {
  const same: PageRun[] = [];
  for (let i = 0, j = 0; ; ) {
    const [ours, theirs] = [a[i], b[j]];
    if (ours === undefined || theirs === undefined) return same;
    const start = Math.max(ours.offset, theirs.offset);
    const end = Math.min(ours.offset + ours.length, theirs.offset + theirs.length);
    if (
      start < end &&
      addressAt(ours, start) === addressAt(theirs, start) &&
      holdsData(ours) &&
      holdsData(theirs)
    ) {
      const page = Math.ceil(start / pageBytes);
      const count = Math.floor(end / pageBytes) - page;
      if (count > 0) appendPages(same, page, count);
    }
    if (ours.offset + ours.length <= theirs.offset + theirs.length) i++;
    else j++;
  }
}

function addressAt(extent: PhysicalExtent, offset: number): number | undefined {
  return extent.physical === undefined ? undefined : extent.physical + offset - extent.offset;
}

function holdsData({ physical, unwritten }: PhysicalExtent): boolean {
  return physical !== undefined && !unwritten;
}
