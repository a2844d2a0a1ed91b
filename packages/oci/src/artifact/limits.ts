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
  /**
   * The page index in a blob, which is read as a whole: what its format allows, with the heads of its two frames and
   * the footer (docs/formats/page-image.md, "Limits").
   */
  pageIndexBytes: 64 * 2 ** 20 + 72,
  /** The page indexes of all steps of memory, or of the disk, which are held at the same time. */
  chainIndexBytes: 128 * 2 ** 20,
  /** A file that travels as one zstd stream, decompressed. */
  wholeFileBytes: 4 * 2 ** 30,
  /** The working set, which is read as a whole (docs/formats/working-set.md, "Limits"). */
  workingSetBytes: 64 * 2 ** 20,
} as const;
