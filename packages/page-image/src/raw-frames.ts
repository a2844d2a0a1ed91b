import type { FileHandle } from "node:fs/promises";
import { nonZeroRuns, pageBytes } from "@sporelet/host";
import { FrameBuilder, type RawFrame } from "./frame-builder.ts";
import type { Pool } from "./pool.ts";
import { readRuns } from "./read-runs.ts";
import { appendPages, subtractRuns } from "./runs.ts";
import type { PageRun } from "./types.ts";

/**
 * Reads the pages of runs and puts those that are not zero into frames, in the order of the runs.
 *
 * @param buffers of the size of a frame; `buffer` of each frame is to be given back.
 * @param onZero is told the pages that are zero.
 */
export async function* rawFrames(
  handle: FileHandle,
  runs: readonly PageRun[],
  buffers: Pool<Buffer>,
  onZero: (run: PageRun) => void,
  signal?: AbortSignal,
): AsyncGenerator<RawFrame> {
  const builder = new FrameBuilder(buffers);
  for await (const block of readRuns(handle, runs, signal)) {
    for (const { page, count, buffer, at } of block) {
      const found: PageRun[] = [];
      for (const { offset, length } of nonZeroRuns(buffer.subarray(at, at + count * pageBytes))) {
        appendPages(found, page + offset / pageBytes, length / pageBytes);
        for (let done = 0; done < length; ) {
          const rest = (length - done) / pageBytes;
          done +=
            builder.add(page + (offset + done) / pageBytes, rest, buffer, at + offset + done) * pageBytes;
          if (builder.isFull) yield builder.take() as RawFrame;
        }
      }
      for (const run of subtractRuns([{ page, count }], found)) onZero(run);
    }
  }
  const last = builder.take();
  if (last !== undefined) yield last;
}
