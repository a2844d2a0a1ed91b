import { type FileHandle, open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { pageBytes } from "@sporelet/host";
import { pagesIn } from "./format.ts";
import { readRuns } from "./read-runs.ts";
import { appendPages, intersectRuns, normalizeRuns, uniteRuns } from "./runs.ts";
import { readPages, storedPages } from "./sparse.ts";
import type { PageRun } from "./types.ts";

export interface DifferingOptions {
  /** Look at these pages only. Default: all of the image. */
  within?: readonly PageRun[] | undefined;
  signal?: AbortSignal | undefined;
}

export async function differingPages(
  image: string,
  base: string,
  options: DifferingOptions = {},
): Promise<PageRun[]> {
  try {
    await using a = await open(image, "r");
    await using b = await open(base, "r");
    return await compare(a, b, options);
  } catch (error) {
    throw SporeletError.from(error, { operation: "compare with its base the page image", subject: image });
  }
}

async function compare(
  a: FileHandle,
  b: FileHandle,
  { within, signal }: DifferingOptions,
): Promise<PageRun[]> {
  let pages = intersectRuns(uniteRuns(await storedPages(a), await storedPages(b)), [
    { page: 0, count: pagesIn((await a.stat()).size) },
  ]);
  if (within !== undefined) pages = intersectRuns(pages, normalizeRuns(within));
  const differing: PageRun[] = [];
  const other = Buffer.allocUnsafeSlow(256 * pageBytes);
  for await (const block of readRuns(a, pages, signal)) {
    for (const { page, count, buffer, at } of block) {
      await readPages(b, other, 0, { page, count });
      for (let i = 0; i < count; i++) {
        const start = at + i * pageBytes;
        if (buffer.compare(other, i * pageBytes, (i + 1) * pageBytes, start, start + pageBytes) !== 0) {
          appendPages(differing, page + i, 1);
        }
      }
    }
  }
  return differing;
}
