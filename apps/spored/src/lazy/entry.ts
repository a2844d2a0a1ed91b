import { randomBytes } from "node:crypto";
import { link, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { detachMount, writeFileAtomic } from "@sporelet/host";
import type { Publication, SnapshotConfig, SnapshotFile, Store, StoredSnapshot } from "@sporelet/store";
import type { LazyServerProcess } from "./spawn.ts";
import { lazyFiles, type VictimRecord } from "./spec.ts";

type Digest = StoredSnapshot["digest"];

/** What is kept of a lazy snapshot in its directory, for the next spored. No credentials. */
export interface LazyRecord {
  formatVersion: 2;
  /** Of this fetch: several may be of one snapshot. Names its directory. */
  id: string;
  /** What is fetched, and from where; see `contentKey`. */
  key: string;
  /** What all of it is to be in the end. */
  digest: Digest;
  /** As a person wrote it. */
  name: string;
  /** The name that it gets in the store. */
  tag?: string;
  publication: Publication;
  server: LazyServerProcess & { socket: string };
}

const recordFile = "lazy.json";
const configFile = "config.json";

/** Where the directories of all lazy snapshots are. */
export function lazyRoot(store: Pick<Store, "root">): string {
  return path.join(store.root, "lazy");
}

/** As long as a digest, by which the store's inventory knows what takes space there. */
export function newLazyId(): string {
  return randomBytes(32).toString("hex");
}

/** Where a lazy snapshot's files are. */
export function lazyDirectory(store: Pick<Store, "root">, id: string): string {
  return path.join(lazyRoot(store), id);
}

export async function writeLazyRecord(directory: string, record: LazyRecord, config: Buffer): Promise<void> {
  await writeFileAtomic(path.join(directory, configFile), config);
  await writeFileAtomic(path.join(directory, recordFile), JSON.stringify(record));
}

/** Undefined when there is none, or not a whole one. */
export async function readLazyRecord(
  directory: string,
): Promise<{ record: LazyRecord; configBytes: Buffer } | undefined> {
  try {
    const record = JSON.parse(await readFile(path.join(directory, recordFile), "utf8")) as LazyRecord;
    const configBytes = await readFile(path.join(directory, configFile));
    return record.formatVersion === 2 ? { record, configBytes } : undefined;
  } catch {
    return undefined;
  }
}

/** Why a process was ended by its server, which may have ended since. */
export async function readVictims(directory: string): Promise<readonly VictimRecord[]> {
  try {
    return JSON.parse(await readFile(path.join(directory, lazyFiles.victims), "utf8")) as VictimRecord[];
  } catch {
    return [];
  }
}

/**
 * Makes a snapshot of the store out of files that are all there. They become names of the same files, so that
 * machines that have them open share the page cache with those to come.
 */
export async function storeLazy(
  store: Store,
  directory: string,
  { record, configBytes, config }: { record: LazyRecord; configBytes: Buffer; config: SnapshotConfig },
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  await using draft = await store.newSnapshot();
  for (const file of Object.keys(config.files) as SnapshotFile[]) {
    await link(path.join(directory, file), path.join(draft.directory, file));
  }
  const snapshot = await draft.adopt(configBytes, record.tag, { signal });
  await store.publications.set(snapshot.digest, record.publication);
  return snapshot;
}

/** Takes away what a server left, or has not yet cleared away; a server that still runs ends by this. */
export async function removeLazy(directory: string): Promise<void> {
  const mount = path.join(directory, lazyFiles.mount);
  // A killed server leaves its mount; more than one can lie over another.
  while (detachMount(mount, { abort: true }));
  const socket = (await readLazyRecord(directory))?.record.server.socket;
  if (socket !== undefined) await rm(socket, { force: true });
  await rm(directory, { recursive: true, force: true });
}
