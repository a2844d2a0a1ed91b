import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { type PhysicalExtent, physicalExtents } from "@sporelet/host";
import type { Holding } from "./sweep.ts";

/** The blocks of a file, or of all files below a directory. */
export interface Measurement extends Holding {
  /** Whether the file system told where the blocks are; without that shared ones cannot be known. */
  exact: boolean;
}

/**
 * Finds out which blocks something has. What vanishes meanwhile has none. Data on its way to the disk has no
 * address yet, and counts as not shared: nobody waits for the disk here.
 *
 * @param options.recursive also what is in directories below: not where something may be mounted, which is
 *   another file system, and one that may not answer
 */
export async function measure(
  path: string,
  { recursive, signal }: { recursive: boolean; signal?: AbortSignal | undefined },
): Promise<Measurement> {
  const result: Measurement & { extents: number[] } = { extents: [], elsewhereBytes: 0, exact: true };
  for (const file of await filesBelow(path, recursive)) {
    signal?.throwIfAborted();
    const found = await ifThere(stat(file));
    if (found === undefined || found.blocks === 0) continue;
    const bytes = found.blocks * 512; // stat(2): st_blocks is in units of 512 bytes.
    const asked = await ifThere(
      physicalExtents(file, { sync: false, pastEnd: true, signal }).then((extents) => ({ extents })),
    );
    if (asked === undefined) continue;
    const { extents } = asked;
    if (extents !== undefined) add(result, extents, bytes);
    else {
      result.exact = false;
      result.elsewhereBytes += bytes;
    }
  }
  return result;
}

/**
 * Adds the blocks of a file. XFS counts more in `st_blocks`, for some minutes: 128 KiB around each page that was
 * written to a shared file, so that the next pages come to lie beside it (speculative copy-on-write
 * preallocation: Linux, Documentation/admin-guide/xfs.rst).
 */
function add(
  to: { extents: number[]; elsewhereBytes: number },
  extents: PhysicalExtent[],
  bytes: number,
): void {
  let placed = 0;
  let elsewhere = 0;
  for (const { physical, length } of extents) {
    if (physical === undefined) {
      elsewhere += length;
    } else {
      to.extents.push(physical, length);
      placed += length;
    }
  }
  // What is compressed has fewer blocks than bytes.
  to.elsewhereBytes += Math.min(elsewhere, Math.max(0, bytes - placed));
}

async function filesBelow(path: string, recursive: boolean): Promise<string[]> {
  const found = await ifThere(stat(path));
  if (found === undefined) return [];
  if (!found.isDirectory()) return [path];
  const entries = await ifThere(readdir(path, { recursive, withFileTypes: true }));
  return (entries ?? []).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** What vanishes meanwhile is no error. */
async function ifThere<T>(question: Promise<T>): Promise<T | undefined> {
  try {
    return await question;
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code !== "ENOENT" && code !== "not_found") throw error;
    return undefined;
  }
}
