import type { SnapshotManifest } from "@sporelet/oci";

/** What a manifest says of a snapshot, and where its blobs are fetched from. */
export interface WantedContent {
  /** Digest of the config, which is the snapshot's. */
  digest: string;
  layers: Pick<SnapshotManifest, "memory" | "disk" | "files">;
  origin: {
    /** `host[:port]`. */
    registry: string;
    /** The name after it. */
    repository: string;
  };
}

/**
 * Who wants the same may share a fetch. The digest of the config is not enough for that: it says what the files
 * should be, which is compared with them when they are all there, and anybody's manifest may name the config of
 * somebody else's snapshot beside layers of its own. Nor are the digests of blobs: a lazy start reads parts of them,
 * which the digest of their index vouches for, and that is the manifest's word too. And whoever asks one registry
 * is not to fail with the errors of another, nor to get what only that one would have given.
 *
 * @returns a text that is the same for the same content from the same repository, and for nothing else
 */
export function contentKey({ digest, layers, origin }: WantedContent): string {
  const chain = (file: "memory" | "disk") =>
    layers[file].map(({ descriptor, index }) => [
      ...[descriptor.digest, descriptor.size],
      ...[index.digest, index.offset, index.sizeBytes],
    ]);
  const files = Object.values(layers.files)
    .map(({ file, rawBytes, descriptor }) => [file, rawBytes, descriptor.digest, descriptor.size])
    .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  return JSON.stringify([
    ...[origin.registry, origin.repository, digest],
    ...[chain("memory"), chain("disk"), files],
  ]);
}
