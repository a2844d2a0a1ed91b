/**
 * What is refused in artifacts of others before anything is allocated for it. Each is far above what Sporelet
 * makes and far below what would hurt.
 */
export const artifactLimits = {
  /** Manifests and indexes; registries commonly refuse more (distribution-spec 1.1, "Pushing Manifests"). */
  manifestBytes: 4 * 1024 * 1024,
  configBytes: 4 * 1024 * 1024,
  /** Layers of an artifact: two for each step of the chain, and some files. */
  layers: 1024,
  /** Entries of an index. */
  variants: 256,
  /** A blob in the registry. */
  blobBytes: 4 * 2 ** 40,
  /** The page index in a blob, which is read as a whole. */
  pageIndexBytes: 256 * 1024 * 1024,
  /** A file that travels as one zstd stream, decompressed. */
  wholeFileBytes: 4 * 2 ** 30,
} as const;
