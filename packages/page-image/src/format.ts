import { SporeletError } from "@sporelet/errors";
import { pageBytes } from "@sporelet/host";

/** Bounds that readers hold a blob to before they make room for it (docs/formats/page-image.md, "Limits"). */
export const limits = {
  imageBytes: 16 * 2 ** 40,
  /** The index, compressed. */
  indexBytes: 64 * 2 ** 20,
  /** The index, decompressed. */
  indexRawBytes: 64 * 2 ** 20,
  frames: 2 ** 20,
  /** Of all frames, and again of zero runs. */
  runs: 2 ** 21,
  /** Of both kinds, in all blobs of a chain: what laying them over one another has to hold. */
  chainRuns: 2 ** 22,
  /** In all blobs of a chain: an image of 512 GiB in frames of the usual size. */
  chainFrames: 2 ** 20,
  /** Decompressed. */
  frameBytes: 4 * 2 ** 20,
} as const;

/** The largest size of a zstd frame with so much in it: ZSTD_compressBound, and some room for headers. */
export function frameBound(rawBytes: number): number {
  return rawBytes + Math.floor(rawBytes / 128) + 512;
}

export function pagesIn(bytes: number): number {
  return Math.ceil(bytes / pageBytes);
}

/** One of the magic numbers of frames that zstd decoders skip (RFC 8878, section 3.1.2). */
const skippableMagic = 0x184d2a50;
/** Magic number and size of a skippable frame. */
export const skippableHeadBytes = 8;
const footerPayloadBytes = 56;
export const footerBytes = skippableHeadBytes + footerPayloadBytes;

const version = 1;
const magic = Buffer.from("SPOREPGI");

/** A skippable frame around some bytes. */
export function skippable(payload: Buffer): Buffer {
  const head = Buffer.allocUnsafe(skippableHeadBytes);
  head.writeUInt32LE(skippableMagic, 0);
  head.writeUInt32LE(payload.length, 4);
  return Buffer.concat([head, payload]);
}

/** @returns whether a skippable frame with a payload of so many bytes begins here. */
export function isSkippable(bytes: Buffer, at: number, payloadBytes: number): boolean {
  return bytes.readUInt32LE(at) === skippableMagic && bytes.readUInt32LE(at + 4) === payloadBytes;
}

/** The end of each blob, of the same size and place in all versions of the format. */
export interface Footer {
  /** Of the compressed index. */
  indexBytes: number;
  /** Of the index decompressed. */
  indexRawBytes: number;
  /** SHA-256 of the compressed index. */
  indexDigest: Buffer;
}

export function encodeFooter(footer: Footer): Buffer {
  const payload = Buffer.alloc(footerPayloadBytes);
  payload.writeUInt32LE(footer.indexBytes, 0);
  payload.writeUInt32LE(footer.indexRawBytes, 4);
  footer.indexDigest.copy(payload, 8);
  payload.writeUInt16LE(version, 40);
  // Two bytes of features that a reader must know at 42 and four of such that it need not at 44: none so far.
  magic.copy(payload, 48);
  return skippable(payload);
}

/**
 * @param bytes the last `footerBytes` of a blob.
 * @throws SporeletError `corrupt`, `incompatible`.
 */
export function parseFooter(bytes: Buffer, fail: (reason: string) => SporeletError): Footer {
  const payload = bytes.subarray(skippableHeadBytes);
  if (payload.length !== footerPayloadBytes || !payload.subarray(48).equals(magic)) {
    throw fail("it does not end like one: it is something else, or cut short");
  }
  if (!isSkippable(bytes, 0, footerPayloadBytes)) throw fail("its footer is damaged");
  const found = payload.readUInt16LE(40);
  const features = payload.readUInt16LE(42);
  if (found !== version || features !== 0) {
    const { operation, subject } = fail("");
    throw new SporeletError({
      code: "incompatible",
      operation,
      subject,
      reason:
        found === version
          ? `it uses features of the page image format that this version does not know (${features})`
          : `it has version ${found} of the page image format, and this version knows version ${version}`,
      hint: "use the version of Sporelet that made it, or a newer one",
    });
  }
  const footer = {
    indexBytes: payload.readUInt32LE(0),
    indexRawBytes: payload.readUInt32LE(4),
    indexDigest: payload.subarray(8, 40),
  };
  if (footer.indexBytes > limits.indexBytes) throw fail(`an index of ${footer.indexBytes} bytes is absurd`);
  if (footer.indexRawBytes > limits.indexRawBytes) {
    throw fail(`an index of ${footer.indexRawBytes} bytes, decompressed, is absurd`);
  }
  return footer;
}
