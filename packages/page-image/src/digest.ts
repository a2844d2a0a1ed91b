import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { nonZeroRuns, pageBytes, scanData } from "@sporelet/host";

/** `sha256:` and 64 hex digits. */
export type Digest = `sha256:${string}`;

export interface ImageDigest {
  digest: Digest;
  /** Bytes in pages that are not zero. */
  usedBytes: number;
}

/**
 * The digest of a page image: SHA-256 over the image's size and then, in order, each page that is not zero
 * preceded by its offset; both numbers are 64-bit little endian. A last page shorter than 4 KiB is hashed
 * as it is. Equal content has an equal digest, whether zeros are stored or are holes, and the cost follows
 * the data and not the size.
 *
 * @throws SporeletError `not_found`, `cancelled`.
 */
export async function digestOf(path: string, signal?: AbortSignal): Promise<ImageDigest> {
  try {
    await using handle = await open(path, "r");
    const hash = createHash("sha256");
    const number = Buffer.alloc(8);
    const hashNumber = (value: number) => {
      number.writeBigUInt64LE(BigInt(value));
      hash.update(number);
    };
    hashNumber((await handle.stat()).size);
    let usedBytes = 0;
    const visit = (buffer: Buffer, filled: number, offset: number) => {
      for (const run of nonZeroRuns(buffer, filled)) {
        const end = run.offset + run.length;
        for (let at = run.offset; at < end; at += pageBytes) {
          hashNumber(offset + at);
          hash.update(buffer.subarray(at, Math.min(at + pageBytes, end)));
        }
        usedBytes += run.length;
      }
    };
    await scanData(handle, visit, signal);
    return { digest: `sha256:${hash.digest("hex")}`, usedBytes };
  } catch (error) {
    throw SporeletError.from(error, { operation: "compute the digest of", subject: path });
  }
}
