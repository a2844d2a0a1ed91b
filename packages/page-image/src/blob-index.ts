import type { Digest, PageRun } from "./types.ts";

/** Where a blob's index is: its tail, so that one range read fetches it. */
export interface IndexRef {
  /** Of the tail. */
  digest: Digest;
  /** Of the tail in the blob; the frames lie before it. */
  offset: number;
  sizeBytes: number;
}

/** A stretch of a blob that is compressed on its own. */
export interface BlobFrame {
  /** In the blob. */
  offset: number;
  sizeBytes: number;
  /** Decompressed: whole pages. */
  rawBytes: number;
  /** Of the compressed bytes. */
  digest: Digest;
  /** The pages that it holds, in this order. */
  runs: readonly PageRun[];
}

/** What a blob holds, and where. */
export interface BlobIndex {
  /** Size of the image; the last page may be a part of one. */
  imageBytes: number;
  frames: readonly BlobFrame[];
  /** The first frames so many hold the pages that a resume touches, roughly in the order of touching. */
  hotFrames: number;
  /** Pages that are zero in this image and not in its base. */
  zeroRuns: readonly PageRun[];
  /** Sum of the frames' `rawBytes`. */
  dataBytes: number;
  /** Bytes in `zeroRuns`. */
  zeroBytes: number;
}
