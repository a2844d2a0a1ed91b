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
export { createRegistryClient, type RegistryClient, type Repository } from "./client/client.ts";
export type { ProxyRules, RegistryClientOptions, RetryEvent, RetryPolicy } from "./client/options.ts";
export { proxyFromEnvironment } from "./client/proxy.ts";
export type { StreamOptions } from "./client/read.ts";
export type { Credential, CredentialSource } from "./credentials/credential.ts";
export {
  type DockerCredentialsOptions,
  dockerCredentials,
  eraseCredentials,
  type StoredIn,
  saveCredentials,
} from "./credentials/docker.ts";
export type { Content, Descriptor, Platform } from "./descriptor.ts";
export { type Digest, isDigest, sha256 } from "./digest.ts";
export { annotationNames, artifactTypes, mediaTypes } from "./media-types.ts";
export { formatImageReference, type ImageReference, isRegistry, parseImageReference } from "./reference.ts";
export type { PushOptions, UploadSessions } from "./upload/push.ts";
export type { BlobSource } from "./upload/session.ts";
