export { type LauncherImage, launcherArtifactPath, launcherImage } from "./artifact/launcher.ts";
export {
  type PageImageFile,
  type PageImageLayer,
  pageImageLayer,
  parseLayer,
  type WholeFile,
  type WholeFileLayer,
  wholeFileLayer,
} from "./artifact/layers.ts";
export { artifactLimits } from "./artifact/limits.ts";
export { type Artifact, parseArtifact, parseArtifactIndex, parseSnapshotManifest } from "./artifact/parse.ts";
export type { PlainArtifact } from "./artifact/plain.ts";
export { type SnapshotManifest, snapshotManifest } from "./artifact/snapshot.ts";
export { type ArtifactIndex, artifactIndex, type Variant } from "./artifact/variants.ts";
export type { Content, Descriptor, Platform } from "./descriptor.ts";
export { type Digest, isDigest, sha256 } from "./digest.ts";
export { annotationNames, artifactTypes, mediaTypes } from "./media-types.ts";
export { formatImageReference, type ImageReference, isRegistry, parseImageReference } from "./reference.ts";
