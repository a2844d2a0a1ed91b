import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { SporeletError } from "@sporelet/errors";
import { sha256 } from "@sporelet/host";
import type { BlobIndex } from "./blob-index.ts";
import { frameBound, limits } from "./format.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** One output buffer that all fits in saves a way to the thread pool for each 16 KiB. Node asks for 64 and more. */
const spareBytes = 64;

/**
 * Compresses the pages of a frame, on another thread. They must not change until the promise settles. Given all of
 * its input at once, zstd fits its tables to the size and puts it into the frame's header.
 */
export function compressFrame(raw: Buffer, level: number): Promise<Buffer> {
  return compress(raw, {
    chunkSize: frameBound(raw.length) + spareBytes,
    params: { [constants.ZSTD_c_compressionLevel]: level },
  });
}

/**
 * Decodes a frame, on other threads: its digest is verified first, and no more is decompressed than the index says.
 *
 * @param compressed the frame's bytes of the blob. They must not change until the promise settles.
 * @param subject names the blob in errors.
 * @returns the frame's pages, `rawBytes` bytes.
 * @throws SporeletError `corrupt`.
 */
export async function openFrame(
  index: BlobIndex,
  n: number,
  compressed: Buffer,
  subject = "a page image",
): Promise<Buffer> {
  const frame = index.frames[n];
  const fail = (reason: string, cause?: unknown) => {
    return new SporeletError({ code: "corrupt", operation: `decode frame ${n} of`, subject, reason, cause });
  };
  if (frame === undefined) throw fail(`it has ${index.frames.length} frames`);
  if (compressed.length !== frame.sizeBytes) {
    throw fail(`there are ${compressed.length} bytes instead of ${frame.sizeBytes} at ${frame.offset}`);
  }
  if (`sha256:${(await sha256(compressed)).toString("hex")}` !== frame.digest) {
    throw fail(`the bytes at ${frame.offset} are not those of ${frame.digest}`);
  }
  let raw: Buffer;
  try {
    raw = await decompress(compressed, {
      chunkSize: frame.rawBytes + spareBytes,
      maxOutputLength: frame.rawBytes,
      params: { [constants.ZSTD_d_windowLogMax]: Math.log2(limits.frameBytes) },
    });
  } catch (error) {
    throw fail(`it cannot be decompressed (${(error as Error).message})`, error);
  }
  if (raw.length !== frame.rawBytes) {
    throw fail(`it has ${raw.length} bytes of pages instead of ${frame.rawBytes}`);
  }
  return raw;
}
