/** Media types of manifests and layers, ours and others'. */
export const mediaTypes = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  imageConfig: "application/vnd.oci.image.config.v1+json",
  imageLayer: "application/vnd.oci.image.layer.v1.tar+gzip",
  empty: "application/vnd.oci.empty.v1+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerIndex: "application/vnd.docker.distribution.manifest.list.v2+json",
  /** Exactly the bytes of a snapshot's config.json. */
  config: "application/vnd.sporelet.config.v1+json",
  /** Page-image blobs: see docs/formats/page-image.md. */
  memory: "application/vnd.sporelet.memory.v1",
  disk: "application/vnd.sporelet.disk.v1",
  /** Whole files, each one zstd stream. */
  vmstate: "application/vnd.sporelet.vmstate.v1+zstd",
  workingset: "application/vnd.sporelet.workingset.v1+zstd",
  kernel: "application/vnd.sporelet.kernel.v1+zstd",
  initramfs: "application/vnd.sporelet.initramfs.v1+zstd",
} as const;

export const artifactTypes = {
  snapshot: "application/vnd.sporelet.snapshot.v1",
  launcher: "application/vnd.sporelet.launcher.v1",
  /** What plain `oras push` of Firecracker's files makes. */
  firecracker: "application/vnd.firecracker.layer.v1",
} as const;

/** Names of the annotations that Sporelet reads or writes. */
export const annotationNames = {
  title: "org.opencontainers.image.title",
  created: "org.opencontainers.image.created",
  /** On entries of the index: `launcher` or `snapshot`. */
  role: "ai.sporelet.role",
  /** On the launcher's entry and labels: the digest of the artifact that it belongs to. */
  artifact: "ai.sporelet.artifact",
  /** On the artifact's entry: the digest of the snapshot, which is that of the config. */
  snapshot: "ai.sporelet.snapshot",
  /** On memory and disk: position in the chain, "0" is the base. */
  layer: "ai.sporelet.layer",
  /** On memory and disk: the page index, which is the tail of the blob. */
  indexDigest: "ai.sporelet.index.digest",
  indexOffset: "ai.sporelet.index.offset",
  indexSize: "ai.sporelet.index.size",
  /** On files that are zstd streams: the size when decompressed. */
  rawSize: "ai.sporelet.size",
  /** On the launcher's one layer, for containerd's snapshotter. */
  snapshotterArtifact: "containerd.io/snapshot/sporelet.artifact",
} as const;

/** Media types of manifests that this client takes, in the order of preference. */
export const manifestMediaTypes: readonly string[] = [
  mediaTypes.index,
  mediaTypes.manifest,
  mediaTypes.dockerIndex,
  mediaTypes.dockerManifest,
];
