import { type Digest, sha256 } from "../../digest.ts";

/** What a registry holds, in memory. */
export interface RegistryState {
  /** All blobs, whatever the repository. */
  blobs: Map<Digest, Buffer>;
  /** By `repository:tag` and `repository@digest`. */
  manifests: Map<string, { mediaType: string; bytes: Buffer }>;
  /** `repository@digest` of blobs that a repository has. */
  links: Set<string>;
  uploads: Map<string, Upload>;
}

export interface Upload {
  repository: string;
  parts: Buffer[];
  sizeBytes: number;
  firstChunkBytes?: number;
  /** Part of the Location, another one after each answer: only the newest is valid. */
  state: number;
}

export function createState(): RegistryState {
  return { blobs: new Map(), manifests: new Map(), links: new Set(), uploads: new Map() };
}

export function storeBlob(state: RegistryState, repository: string, bytes: Buffer): Digest {
  const digest = sha256(bytes);
  state.blobs.set(digest, bytes);
  state.links.add(`${repository}@${digest}`);
  return digest;
}
