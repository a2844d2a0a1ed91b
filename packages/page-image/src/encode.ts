import { createHash } from "node:crypto";
import { type FileHandle, open, rm } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { pageBytes, sha256, writeFully, zstdCompressor } from "@sporelet/host";
import type { BlobFrame, IndexRef } from "./blob-index.ts";
import { planEncoding } from "./encode-plan.ts";
import { limits } from "./format.ts";
import type { RawFrame } from "./frame-builder.ts";
import { encodeTail } from "./index-tail.ts";
import { mapInOrder } from "./ordered.ts";
import { Pool } from "./pool.ts";
import { rawFrames } from "./raw-frames.ts";
import { countPages, normalizeRuns } from "./runs.ts";
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
  /**
   * How much is compressed together, decompressed: whole pages, at most 4 MiB. Default: 512 KiB; 4 MiB for deltas of
   * at most 64 MiB, whose pages repeat over longer distances: what a program wrote was read from somewhere.
   */
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
const smallDeltaFrameBytes = limits.frameBytes;
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
  const { frameBytes = defaultFrameBytes } = options;
  if (frameBytes % pageBytes !== 0 || frameBytes <= 0 || frameBytes > limits.frameBytes) {
    const reason = `frames of ${frameBytes} bytes are not possible`;
    throw new SporeletError({ code: "invalid_argument", operation, subject: image, reason });
  }
  try {
    await using from = await open(image, "r");
    await using to = await open(target, "wx", 0o600);
    try {
      return await encode(from, to, options);
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

async function encode(from: FileHandle, to: FileHandle, options: EncodeOptions): Promise<EncodedBlob> {
  const { signal } = options;
  const { size: imageBytes } = await from.stat();
  if (imageBytes > limits.imageBytes) {
    const reason = `it has ${imageBytes} bytes, and ${limits.imageBytes} are the most`;
    throw new SporeletError({ code: "invalid_argument", operation, subject: options.image, reason });
  }
  const plan = await planEncoding(from, imageBytes, options);
  const totalBytes = (countPages(plan.hot) + countPages(plan.cold)) * pageBytes;
  const small = plan.delta && totalBytes <= smallDeltaBytes;
  const level = options.level ?? (small ? 6 : 3);
  const frameBytes = options.frameBytes ?? (small ? smallDeltaFrameBytes : defaultFrameBytes);
  const framePages = frameBytes / pageBytes;
  const zeros = [...plan.zeros];
  const onZero = (run: PageRun) => {
    if (plan.delta) zeros.push(run);
  };

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
      await writeFully(to, compressed, 0, sizeBytes, offset - sizeBytes);
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

  const zeroRuns = normalizeRuns(zeros);
  const zeroBytes = countPages(zeroRuns) * pageBytes;
  const { tail, ref } = encodeTail({ imageBytes, frames, hotFrames, zeroRuns, dataBytes, zeroBytes });
  hash.update(tail);
  await writeFully(to, tail, 0, tail.length, offset);
  const digest: Digest = `sha256:${hash.digest("hex")}`;
  return { digest, sizeBytes: offset + tail.length, index: ref, dataBytes, zeroBytes, imageBytes };
}
