import { createHash } from "node:crypto";
import { type FileHandle, open, rm } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { nonZeroRuns, pageBytes, sha256, zstdCompressor } from "@sporelet/host";
import type { BlobFrame, IndexRef } from "./blob-index.ts";
import { differingPages } from "./differing-pages.ts";
import { limits, pagesIn } from "./format.ts";
import { FrameBuilder, type RawFrame } from "./frame-builder.ts";
import { encodeTail } from "./index-tail.ts";
import { mapInOrder } from "./ordered.ts";
import { Pool } from "./pool.ts";
import { readRuns } from "./read-runs.ts";
import { appendPages, countPages, intersectRuns, normalizeRuns, subtractRuns } from "./runs.ts";
import { storedPages } from "./sparse.ts";
import type { Digest, PageRun } from "./types.ts";

export interface EncodeOptions {
  /** Path of the image, a sparse file of any size up to 16 TiB. It must not change meanwhile. */
  image: string;
  /** Path of the image that this one is to be a delta against. Default: none, all pages are encoded. */
  base?: string | undefined;
  /**
   * All pages that differ from the base, and maybe others; with `base` they are compared, without it they are
   * taken as they are. Default: with `base` what `differingPages` finds.
   */
  changed?: readonly PageRun[] | undefined;
  /** Pages to put into the first frames, most wanted first; in any order, and they may repeat. */
  first?: readonly PageRun[] | undefined;
  /** Path of the blob, which must not exist. It is removed when the encoding fails. */
  target: string;
  /** Of zstd. Default: 3; 6 for deltas of at most 64 MiB, so that they are no larger than one stream of level 3. */
  level?: number | undefined;
  /** How much is compressed together, decompressed: whole pages, at most 4 MiB. Default: 512 KiB. */
  frameBytes?: number | undefined;
  /** Called after each frame, with bytes of pages that were encoded and how many there may be at most. */
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface EncodedBlob {
  /** Of the blob. */
  digest: Digest;
  sizeBytes: number;
  index: IndexRef;
  /** Bytes in the pages that it holds, and in those that it only says are zero. */
  dataBytes: number;
  zeroBytes: number;
  imageBytes: number;
}

const operation = "encode the page image";
/** Frames in work or waiting for their turn: both threads stay busy while one frame takes longer. */
const depth = 4;
const defaultFrameBytes = 512 * 1024;
const smallDeltaBytes = 64 * 2 ** 20;

/**
 * Encodes an image, or what differs from its base, as a blob (docs/formats/page-image.md). The same pages,
 * options and version of zstd give the same bytes. Memory use does not depend on the image's size, apart from
 * the index: some bytes for each run of pages.
 *
 * @throws SporeletError `not_found`, `already_exists`, `cancelled`, `resource_exhausted`.
 */
export async function encodeBlob(options: EncodeOptions): Promise<EncodedBlob> {
  const { image, target } = options;
  const frameBytes = options.frameBytes ?? defaultFrameBytes;
  if (frameBytes % pageBytes !== 0 || frameBytes <= 0 || frameBytes > limits.frameBytes) {
    const reason = `frames of ${frameBytes} bytes are not possible`;
    throw new SporeletError({ code: "invalid_argument", operation, subject: image, reason });
  }
  try {
    await using from = await open(image, "r");
    await using to = await open(target, "wx", 0o600);
    try {
      return await encode(from, to, options, frameBytes / pageBytes);
    } catch (error) {
      await rm(target, { force: true });
      throw error;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") {
      throw new SporeletError({
        code: "already_exists",
        operation,
        subject: image,
        reason: `${target} exists`,
        cause: error,
      });
    }
    throw SporeletError.from(error, { operation, subject: image });
  }
}

async function encode(
  from: FileHandle,
  to: FileHandle,
  options: EncodeOptions,
  framePages: number,
): Promise<EncodedBlob> {
  const { signal } = options;
  const { size: imageBytes } = await from.stat();
  const plan = await planOf(from, options, imageBytes);
  const totalBytes = (countPages(plan.hot) + countPages(plan.cold)) * pageBytes;
  const level = options.level ?? (plan.delta && totalBytes <= smallDeltaBytes ? 6 : 3);
  const zeros = [...plan.zeros];
  const onZero = (run: PageRun) => zeros.push(run);

  const frames: BlobFrame[] = [];
  const hash = createHash("sha256");
  let offset = 0;
  let dataBytes = 0;
  const buffers = new Pool<Buffer>(() => Buffer.allocUnsafeSlow(framePages * pageBytes));
  using workers = new DisposableStack();
  const compressors = new Pool(() => workers.use(zstdCompressor(level, framePages * pageBytes)));
  const compress = async ({ runs, raw, buffer }: RawFrame) => {
    const compressor = compressors.take();
    const compressed = await compressor.compress(raw);
    buffers.give(buffer);
    return { runs, rawBytes: raw.length, compressor, compressed, digest: await sha256(compressed) };
  };
  const place = (source: AsyncIterable<RawFrame>) => {
    return mapInOrder(mapInOrder(source, depth, compress), depth, async (frame) => {
      const { runs, rawBytes, compressed } = frame;
      const sizeBytes = compressed.length;
      frames.push({ offset, sizeBytes, rawBytes, digest: `sha256:${frame.digest.toString("hex")}`, runs });
      hash.update(compressed);
      offset += sizeBytes;
      await writeAt(to, compressed, offset - sizeBytes);
      compressors.give(frame.compressor);
      return rawBytes;
    });
  };
  const write = async (source: AsyncIterable<RawFrame>) => {
    for await (const rawBytes of place(source)) {
      dataBytes += rawBytes;
      options.onProgress?.(dataBytes, totalBytes);
      signal?.throwIfAborted(); // Reading, which looks too, may be far ahead.
    }
  };
  await write(rawFrames(from, plan.hot, buffers, onZero, signal));
  const hotFrames = frames.length;
  await write(rawFrames(from, plan.cold, buffers, onZero, signal));

  const zeroRuns = plan.delta ? normalizeRuns(zeros) : [];
  const zeroBytes = countPages(zeroRuns) * pageBytes;
  const { tail, ref } = encodeTail({ imageBytes, frames, hotFrames, zeroRuns, dataBytes, zeroBytes });
  hash.update(tail);
  await writeAt(to, tail, offset);
  const digest: Digest = `sha256:${hash.digest("hex")}`;
  return { digest, sizeBytes: offset + tail.length, index: ref, dataBytes, zeroBytes, imageBytes };
}

interface Plan {
  /** Whether there is a base: pages that became zero have to be said. */
  delta: boolean;
  /** Pages to encode, unless they are found to be zero; `hot` in the order in which they are wanted. */
  hot: PageRun[];
  cold: PageRun[];
  /** Pages that are known to be zero. */
  zeros: PageRun[];
}

async function planOf(from: FileHandle, options: EncodeOptions, imageBytes: number): Promise<Plan> {
  const { image, base, changed, signal } = options;
  const whole = [{ page: 0, count: pagesIn(imageBytes) }];
  const stored = intersectRuns(await storedPages(from), whole);
  let wanted = stored;
  let zeros: PageRun[] = [];
  const delta = base !== undefined || changed !== undefined;
  if (delta) {
    const differing =
      base === undefined
        ? intersectRuns(normalizeRuns(changed ?? []), whole)
        : await differingPages(image, base, { within: changed, signal });
    wanted = intersectRuns(differing, stored);
    zeros = subtractRuns(differing, stored);
  }
  const { hot, all } = hotPages(options.first ?? [], wanted);
  return { delta, hot, cold: subtractRuns(wanted, all), zeros };
}

/** The wanted pages of a list that has an order of its own: in that order, and (`all`) ascending. */
function hotPages(first: readonly PageRun[], wanted: readonly PageRun[]): { hot: PageRun[]; all: PageRun[] } {
  const all = intersectRuns(normalizeRuns(first), wanted);
  const ascending = first.every((run, i) => i === 0 || run.page >= endOf(first[i - 1]));
  if (ascending) return { hot: all, all };
  const seen = new Set<number>();
  const hot: PageRun[] = [];
  // Page by page: the working set of a resume has thousands of pages, not millions.
  for (const run of first) {
    for (const { page, count } of intersectRuns([run], within(wanted, run))) {
      for (let at = page; at < page + count; at++) {
        if (seen.has(at)) continue;
        seen.add(at);
        const last = hot.at(-1);
        if (last !== undefined && endOf(last) === at) last.count++;
        else hot.push({ page: at, count: 1 });
      }
    }
  }
  return { hot, all };
}

function endOf(run: PageRun | undefined): number {
  return run === undefined ? 0 : run.page + run.count;
}

/** The part of a list, found by bisection, that can meet a run. */
function within(runs: readonly PageRun[], { page, count }: PageRun): readonly PageRun[] {
  let low = 0;
  for (let high = runs.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if (endOf(runs[middle]) > page) high = middle;
    else low = middle + 1;
  }
  let end = low;
  while ((runs[end]?.page ?? Number.POSITIVE_INFINITY) < page + count) end++;
  return runs.slice(low, end);
}

/** The pages of runs that are not zero, in frames. */
async function* rawFrames(
  handle: FileHandle,
  runs: readonly PageRun[],
  buffers: Pool<Buffer>,
  onZero: (run: PageRun) => void,
  signal: AbortSignal | undefined,
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

async function writeAt(to: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await to.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
