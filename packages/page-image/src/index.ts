export type { BlobFrame, BlobIndex, IndexRef } from "./blob-index.ts";
export { chainBudget } from "./chain.ts";
export { type ChunkEntry, type ChunkTable, parseChunkTable } from "./chunk-table.ts";
export { type DifferingOptions, differingPages } from "./differing-pages.ts";
export { type DigestOptions, digestOf, type ImageDigest } from "./digest.ts";
export { type EncodedBlob, type EncodeOptions, encodeBlob } from "./encode.ts";
export { type FlatFrame, type FlatImage, type FrameWrite, flatten } from "./flatten.ts";
export { openFrame } from "./frame.ts";
export { largestIndexBytes, parseIndex, readChain, readIndex } from "./index-tail.ts";
export { type MaterializeOptions, materialize, writeFrame } from "./materialize.ts";
export { countPages, intersectRuns, normalizeRuns, subtractRuns, uniteRuns } from "./runs.ts";
export type { Digest, PageRun } from "./types.ts";
export {
  encodeWorkingSet,
  largestWorkingSetBytes,
  parseWorkingSet,
  readWorkingSet,
  type TouchedRun,
  type WorkingSet,
} from "./working-set.ts";
