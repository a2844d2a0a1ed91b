import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Digest } from "@sporelet/page-image";
import { cacheEntryKey } from "../cache.ts";
import { hexOf, isDigest } from "../digest-name.ts";
import { entriesOf, type Layout } from "../layout.ts";
import type { Publications } from "../publications.ts";
import { configName } from "../snapshot.ts";
import { standsInFor } from "../stand-in.ts";
import type { TagTable } from "../tags.ts";
import type { Uses } from "../uses.ts";
import { type EntryKind, type Item, shortId } from "./plan.ts";

/** What spored knows and the store does not. */
export interface Residents {
  /** Names of the machines, running or stopped, that come from a snapshot. */
  inUse(snapshot: Digest): string[];
  /** The name of the machine with this id. Default: its id. */
  nameOf?(machine: string): string | undefined;
}

/** Something in the store that takes space, and where. */
export interface FoundItem extends Item {
  path: string;
  /** Key among the things that are used; see `Uses`. */
  key: string;
  /** Names of a snapshot or a machine; what a blob is. */
  names: string[];
  createdMs: number;
}

export interface InventorySources {
  layout: Layout;
  uses: Uses;
  publications: Publications;
  tags: TagTable;
  residents: Residents;
}

/** All that takes space in the store, by kind. */
export async function takeInventory(sources: InventorySources): Promise<FoundItem[]> {
  const snapshots = await snapshotsIn(sources);
  return [
    ...snapshots,
    ...(await buildsIn(sources)),
    ...(await blobsIn(sources, snapshots)),
    ...(await partialsIn(sources)),
    ...(await lazyIn(sources)),
    ...(await machinesIn(sources)),
  ];
}

/** The digests in a directory of things that are named by their digest. */
export async function digestsIn(directory: string): Promise<Digest[]> {
  return (await entriesOf(directory)).flatMap(({ name }) => {
    const digest = `sha256:${name}`;
    return isDigest(digest) ? [digest] : [];
  });
}

/** The parent that a stored snapshot names. Of a config that cannot be read nothing is known. */
export async function parentOf(directory: string): Promise<Digest | undefined> {
  const text = await readFile(join(directory, configName), "utf8").catch(() => "{}");
  try {
    const { parent } = JSON.parse(text) as { parent?: unknown };
    return isDigest(parent) ? parent : undefined;
  } catch {
    return undefined;
  }
}

async function snapshotsIn({ layout, uses, tags, residents }: InventorySources): Promise<FoundItem[]> {
  const items = (await digestsIn(layout.snapshots)).map(async (id) => {
    const path = join(layout.snapshots, hexOf(id, "look at"));
    const names = [...tags].flatMap(([name, digest]) => (digest === id ? [name] : []));
    const item = await itemAt({ kind: "snapshot", id, path, key: id, names }, uses);
    if (item === undefined) return [];
    const machines = residents.inUse(id).map((name) => `machine ${name}`);
    const relations = { parent: await parentOf(path), standsInFor: await standsInFor(path) };
    return [{ ...item, tags: names, users: [...machines, ...item.users], ...relations }];
  });
  return (await Promise.all(items)).flat();
}

async function buildsIn({ layout, uses }: InventorySources): Promise<FoundItem[]> {
  const items: FoundItem[] = [];
  for (const stage of await entriesOf(layout.cache)) {
    if (!stage.isDirectory()) continue;
    const directory = join(layout.cache, stage.name);
    for (const name of await readdir(directory)) {
      const id = cacheEntryKey(stage.name, name);
      const item = await itemAt({ kind: "build", id, path: join(directory, name), key: id, names: [] }, uses);
      if (item !== undefined) items.push(item);
    }
  }
  return items;
}

async function blobsIn(
  { layout, uses, publications }: InventorySources,
  snapshots: FoundItem[],
): Promise<FoundItem[]> {
  const roles = new Map<string, { names: string[]; users: Set<string> }>();
  for (const { id, tags } of snapshots) {
    const snapshot = id as Digest;
    // One that cannot be read names no blobs; whoever needs it is told.
    const publication = await publications.get(snapshot).catch(() => undefined);
    const chain = publication?.layers ?? [];
    // Whoever works with a snapshot may come for its blobs.
    const holders = uses.holdersOf(snapshot);
    for (const { digest, file } of chain) {
      const role = roles.get(digest) ?? { names: [], users: new Set() };
      roles.set(digest, role);
      role.names.push(`${file} of ${tags[0] ?? shortId(id)}`);
      for (const holder of holders) role.users.add(holder);
    }
  }
  const items = (await digestsIn(layout.blobs)).map(async (id) => {
    const path = join(layout.blobs, hexOf(id, "look at"));
    const role = roles.get(id);
    const item = await itemAt({ kind: "blob", id, path, key: id, names: role?.names ?? [] }, uses);
    return item === undefined
      ? []
      : [{ ...item, users: [...new Set([...(role?.users ?? []), ...item.users])] }];
  });
  return (await Promise.all(items)).flat();
}

async function partialsIn({ layout, uses }: InventorySources): Promise<FoundItem[]> {
  const items = (await digestsIn(layout.partial)).map(async (id) => {
    const path = join(layout.partial, hexOf(id, "look at"));
    return await itemAt({ kind: "partial", id, path, key: id, names: [] }, uses);
  });
  return (await Promise.all(items)).filter((item) => item !== undefined);
}

/** Never collected: who fetches them also clears them away. */
async function lazyIn({ layout, uses, residents }: InventorySources): Promise<FoundItem[]> {
  const digests = await digestsIn(layout.lazy).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    return [];
  });
  const items = digests.map(async (id) => {
    const path = join(layout.lazy, hexOf(id, "look at"));
    const item = await itemAt({ kind: "partial", id, path, key: `lazy ${id}`, names: [] }, uses);
    const machines = residents.inUse(id).map((name) => `machine ${name}`);
    return item === undefined ? [] : [{ ...item, users: [...machines, "what is being fetched"] }];
  });
  return (await Promise.all(items)).flat();
}

async function machinesIn({ layout, uses, residents }: InventorySources): Promise<FoundItem[]> {
  const items = (await entriesOf(layout.machines)).map(async ({ name: id }) => {
    const name = residents.nameOf?.(id) ?? id;
    const path = join(layout.machines, id);
    const item = await itemAt({ kind: "machine", id, path, key: `machine ${id}`, names: [name] }, uses);
    return item === undefined ? [] : [{ ...item, users: [`machine ${name}`] }];
  });
  return (await Promise.all(items)).flat();
}

/** @returns undefined for what vanished meanwhile. */
async function itemAt(
  item: { kind: EntryKind; id: string; path: string; key: string; names: string[] },
  uses: Uses,
): Promise<FoundItem | undefined> {
  const found = await stat(item.path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  if (found === undefined) return undefined;
  const lastUsedMs = found.mtimeMs;
  // Not all file systems keep the time of birth; then it is 0.
  const createdMs = found.birthtimeMs > 0 ? Math.min(found.birthtimeMs, lastUsedMs) : lastUsedMs;
  return { ...item, lastUsedMs, createdMs, tags: [], users: uses.holdersOf(item.key, lastUsedMs) };
}
