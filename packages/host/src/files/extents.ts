import { type FileHandle, open } from "node:fs/promises";
import { seekData, seekHole } from "../syscalls.ts";
import { type Extent, pageBytes } from "./pages.ts";

/**
 * Where a file holds data, in order: what lies between is holes, which read as zeros. Data may be zeros too;
 * a file system without holes answers with one extent.
 */
export async function dataExtents(file: string | FileHandle): Promise<Extent[]> {
  if (typeof file !== "string") return extentsOf(file.fd);
  await using handle = await open(file, "r");
  return extentsOf(handle.fd);
}

function extentsOf(fd: number): Extent[] {
  const extents: Extent[] = [];
  let offset = 0;
  for (;;) {
    const start = seekData(fd, offset);
    if (start === undefined) return extents;
    const end = seekHole(fd, start);
    if (end === undefined) return extents; // The file was cut off in between.
    extents.push({ offset: start, length: end - start });
    offset = end;
  }
}

/** What `scanData` reads at once: large enough that the calls do not count, small enough for the CPU's cache. */
const blockBytes = 1024 * 1024;

/**
 * Reads a file's data extents in order, a block of up to 1 MiB at a time, aligned to pages. The buffer is
 * used again for the next block: the callback is done with it when it returns or its promise settles.
 */
export async function scanData(
  handle: FileHandle,
  visit: (buffer: Buffer, length: number, offset: number) => void | Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const { size } = await handle.stat();
  const buffer = Buffer.allocUnsafe(blockBytes);
  for (const { offset: start, length } of await alignedExtents(handle, size)) {
    const end = start + length;
    for (let offset = start; offset < end; ) {
      signal?.throwIfAborted();
      const wanted = Math.min(blockBytes, end - offset);
      const filled = await readFully(handle, buffer, wanted, offset);
      if (filled > 0) await visit(buffer, filled, offset);
      if (filled < wanted) return; // The file was cut off in between.
      offset += wanted;
    }
  }
}

/** Data extents grown to whole pages (file systems may have smaller blocks) and merged where they meet. */
async function alignedExtents(handle: FileHandle, size: number): Promise<Extent[]> {
  const aligned: Extent[] = [];
  for (const extent of await dataExtents(handle)) {
    const start = extent.offset - (extent.offset % pageBytes);
    const end = Math.min(size, Math.ceil((extent.offset + extent.length) / pageBytes) * pageBytes);
    const last = aligned.at(-1);
    if (last !== undefined && start <= last.offset + last.length) last.length = end - last.offset;
    else aligned.push({ offset: start, length: end - start });
  }
  return aligned;
}

async function readFully(
  handle: FileHandle,
  buffer: Buffer,
  length: number,
  position: number,
): Promise<number> {
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}
