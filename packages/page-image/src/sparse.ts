import type { FileHandle } from "node:fs/promises";
import { dataExtents, type Extent, pageBytes } from "@sporelet/host";
import { appendPages } from "./runs.ts";
import type { PageRun } from "./types.ts";

/** The pages that a file stores something for; all others are holes, and zero. Stored pages may be zero too. */
export async function storedPages(handle: FileHandle): Promise<PageRun[]> {
  return pagesOf(await dataExtents(handle));
}

/** The pages that stretches of bytes touch. */
function pagesOf(extents: readonly Extent[]): PageRun[] {
  const runs: PageRun[] = [];
  for (const { offset, length } of extents) {
    const page = Math.floor(offset / pageBytes);
    appendPages(runs, page, Math.ceil((offset + length) / pageBytes) - page);
  }
  return runs;
}

/** Reads whole pages; what lies past the end of the file is zeros. */
export async function readPages(
  handle: FileHandle,
  buffer: Buffer,
  at: number,
  { page, count }: PageRun,
): Promise<void> {
  const length = count * pageBytes;
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, at + filled, length - filled, page * pageBytes + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  buffer.fill(0, at + filled, at + length);
}
