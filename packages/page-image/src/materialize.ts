import { type FileHandle, open, rm } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { pageBytes, writeFully, zeroRange } from "@sporelet/host";
import type { BlobFrame, BlobIndex } from "./blob-index.ts";
import { type FlatFrame, type FlatImage, flatten } from "./flatten.ts";
import { openFrame } from "./frame.ts";
import { inLanes } from "./parallel.ts";

export interface MaterializeOptions {
  /** A chain, base first. */
  blobs: readonly { path: string; index: BlobIndex }[];
  /** Path of the image. It is removed when it cannot be completed. */
  target: string;
  /**
   * The target exists: a file of the caller's own, a reflink for one, with the image that the first blob is a
   * delta against. Default: it must not exist.
   */
  onto?: boolean | undefined;
  /** Called after each frame, with bytes of pages that were written and how many there are. */
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

const operation = "materialise a page image in";
/** Frames in flight: both threads stay busy while others are read and written. */
const lanes = 4;

/**
 * Writes the image that a chain of blobs makes, as a sparse file: pages that are zero are holes. Each frame
 * is verified, and frames that are hidden by later layers are not decoded. It is not synced.
 *
 * @throws SporeletError `corrupt`, `not_found`, `already_exists`, `cancelled`, `resource_exhausted`.
 */
export async function materialize(options: MaterializeOptions): Promise<void> {
  const { blobs, target, signal } = options;
  try {
    await using files = new AsyncDisposableStack();
    const handles: FileHandle[] = [];
    for (const { path } of blobs) handles.push(files.use(await open(path, "r")));
    await using to = await open(target, options.onto ? "r+" : "wx", 0o600);
    try {
      const flat = flatten(blobs.map(({ index }) => index));
      if (options.onto) await removeWhatIsGone(to, blobs, flat);
      await to.truncate(flat.imageBytes);
      let doneBytes = 0;
      const buffers = Array.from({ length: lanes }, (): Lane => ({ compressed: noBytes, raw: noBytes }));
      const work = async (frame: FlatFrame, lane: number) => {
        const own = buffers[lane] as Lane;
        const blob = blobs[frame.layer] as MaterializeOptions["blobs"][number];
        const { sizeBytes, rawBytes } = blob.index.frames[frame.frame] as BlobFrame;
        own.compressed = roomFor(sizeBytes, own.compressed);
        own.raw = roomFor(rawBytes, own.raw);
        const compressed = own.compressed.subarray(0, sizeBytes);
        await readFrame(handles[frame.layer] as FileHandle, blob, frame.frame, compressed);
        await writeFrame(to, frame, await openFrame(blob.index, frame.frame, compressed, blob.path, own.raw));
        for (const { count } of frame.writes) doneBytes += count * pageBytes;
        options.onProgress?.(doneBytes, flat.dataBytes);
      };
      await inLanes(flat.frames, lanes, work, signal);
    } catch (error) {
      await rm(target, { force: true });
      throw error;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") {
      const reason = "it exists";
      throw new SporeletError({ code: "already_exists", operation, subject: target, reason, cause: error });
    }
    throw SporeletError.from(error, { operation, subject: target });
  }
}

/** Makes zero what the blobs say is, and what lay past the end of an image on the way. */
async function removeWhatIsGone(
  to: FileHandle,
  blobs: MaterializeOptions["blobs"],
  { zeroRuns }: FlatImage,
): Promise<void> {
  const { size } = await to.stat();
  const smallest = Math.min(...blobs.map(({ index }) => index.imageBytes));
  if (smallest < size) await to.truncate(smallest);
  const left = Math.min(size, smallest);
  for (const { page, count } of zeroRuns) {
    const offset = page * pageBytes;
    const length = Math.min(left, offset + count * pageBytes) - offset;
    if (length > 0) await zeroRange(to, { offset, length });
  }
}

/** Buffers that one frame after the other goes through. */
interface Lane {
  compressed: Buffer;
  raw: Buffer;
}

const noBytes = Buffer.alloc(0);

/** A buffer of at least that size: the one there is, or a larger one. */
function roomFor(bytes: number, buffer: Buffer): Buffer {
  return bytes <= buffer.length ? buffer : Buffer.allocUnsafeSlow(bytes);
}

async function readFrame(
  handle: FileHandle,
  { path, index }: { path: string; index: BlobIndex },
  n: number,
  into: Buffer,
): Promise<void> {
  const { offset } = index.frames[n] as BlobFrame;
  for (let filled = 0; filled < into.length; ) {
    const { bytesRead } = await handle.read(into, filled, into.length - filled, offset + filled);
    if (bytesRead === 0) {
      const reason = `it ends at byte ${offset + filled}, within frame ${n}`;
      throw new SporeletError({ code: "corrupt", operation: "read the page image", subject: path, reason });
    }
    filled += bytesRead;
  }
}

/**
 * Writes a decoded frame's visible pages to where they belong. Frames of one flat image never write to the same
 * place, so they may be written in any order and side by side. When it fails nothing is being written any more.
 *
 * @param target of the image's size; nothing is written past it.
 * @param raw from `openFrame`.
 */
export async function writeFrame(target: FileHandle, frame: FlatFrame, raw: Buffer): Promise<void> {
  const results = await Promise.allSettled(
    frame.writes.map(async ({ page, count, at }) => {
      const position = page * pageBytes;
      const length = Math.min(count * pageBytes, frame.imageBytes - position);
      await writeFully(target, raw, at, length, position);
    }),
  );
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
