import { SporeletError } from "@sporelet/errors";
import { sha256, zstdDecompressInto } from "@sporelet/host";
import type { BlobIndex } from "./blob-index.ts";

/**
 * Decodes a frame, on other threads: its digest is verified first, and no more is decompressed than the index says.
 *
 * @param compressed the frame's bytes of the blob. They must not change until the promise settles.
 * @param subject names the blob in errors.
 * @param into takes the pages; at least `rawBytes` large. Default: a new buffer.
 * @returns the frame's pages, `rawBytes` bytes.
 * @throws SporeletError `corrupt`.
 */
export async function openFrame(
  index: BlobIndex,
  n: number,
  compressed: Buffer,
  subject = "a page image",
  into?: Buffer,
): Promise<Buffer> {
  const frame = index.frames[n];
  const fail = (reason: string, cause?: unknown) =>
    new SporeletError({ code: "corrupt", operation: `decode frame ${n} of`, subject, reason, cause });
  if (frame === undefined) throw fail(`it has ${index.frames.length} frames`);
  if (compressed.length !== frame.sizeBytes) {
    throw fail(`there are ${compressed.length} bytes instead of ${frame.sizeBytes} at byte ${frame.offset}`);
  }
  if (`sha256:${(await sha256(compressed)).toString("hex")}` !== frame.digest) {
    throw fail(`the bytes at byte ${frame.offset} are not those of ${frame.digest}`);
  }
  const raw = into?.subarray(0, frame.rawBytes) ?? Buffer.allocUnsafe(frame.rawBytes);
  if (raw.length !== frame.rawBytes) throw new RangeError("the buffer is smaller than the frame");
  try {
    await zstdDecompressInto(raw, compressed);
  } catch (error) {
    throw fail(`it cannot be decompressed (${(error as Error).message})`, error);
  }
  return raw;
}
