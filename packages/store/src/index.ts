export type { BlobStore } from "./blobs.ts";
export type { Cache, CacheOptions } from "./cache.ts";
export { cacheKey, type KeyPart } from "./cache-key.ts";
export type {
  Collected,
  CollectOptions,
  DiscardOptions,
  Listing,
  Usage,
} from "./collect/collector.ts";
export type { HistoryEntry } from "./collect/history.ts";
export type { Residents } from "./collect/inventory.ts";
export type { EntryKind } from "./collect/plan.ts";
export type { RemoveOptions } from "./collect/remove.ts";
export type { StoreEntry } from "./collect/survey.ts";
export {
  type ChangedPages,
  type FileRecord,
  type ImageFile,
  imageFiles,
  type PerFile,
  type SnapshotConfig,
  type SnapshotDescription,
  type SnapshotFile,
  snapshotFiles,
} from "./config.ts";
export type { SnapshotDraft } from "./draft.ts";
export type { MachineDirectories } from "./machines.ts";
export { parseConfig } from "./parse-config.ts";
export type { Publication, Publications, PublishedLayer } from "./publications.ts";
export { normalizeReference, parseReference, type Reference } from "./reference.ts";
export type { StoredSnapshot } from "./snapshot.ts";
export { markStandIn, standsInFor } from "./stand-in.ts";
export { openStore, type Store } from "./store.ts";
export type { Lease } from "./uses.ts";
