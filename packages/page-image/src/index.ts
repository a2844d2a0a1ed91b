export { type ChunkEntry, type ChunkTable, parseChunkTable } from "./chunk-table.ts";
export { type DigestOptions, digestOf, type ImageDigest } from "./digest.ts";
export { countPages, intersectRuns, normalizeRuns, subtractRuns } from "./runs.ts";
export type { Digest, PageRun } from "./types.ts";
