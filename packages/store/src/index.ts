export type { Cache, CacheOptions } from "./cache.ts";
export { cacheKey, type KeyPart } from "./cache-key.ts";
export {
  type FileRecord,
  type PerFile,
  type SnapshotConfig,
  type SnapshotDescription,
  type SnapshotFile,
  snapshotFiles,
} from "./config.ts";
export type { MachineDirectories } from "./machines.ts";
export { normalizeReference, parseReference, type Reference } from "./reference.ts";
export type { SnapshotDraft, StoredSnapshot } from "./snapshot.ts";
export { openStore, type RemoveOptions, type Store } from "./store.ts";
