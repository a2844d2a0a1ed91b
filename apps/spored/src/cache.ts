import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { node as api } from "@sporelet/api";
import type { Collected, Residents, StoreEntry } from "@sporelet/store";
import type { Node } from "./node.ts";

/** What the store has to know of the machines: each needs its snapshot, whether it runs or not. */
export function residents(node: Node): Residents {
  return {
    inUse: (digest) =>
      [...node.machines].flatMap(({ name, record }) => (record.snapshotDigest === digest ? [name] : [])),
    nameOf: (id) => [...node.machines].find((machine) => machine.id === id)?.name,
  };
}

/** ListCache: all that takes space in the store. */
export async function listCache(node: Node, signal: AbortSignal): Promise<api.ListCacheResponse> {
  const { entries, exact } = await node.store.entries(residents(node), signal);
  return create(api.ListCacheResponseSchema, { entries: entries.map(entryMessage), sharingUnknown: !exact });
}

/** CacheUsage: how much of it, by kind, and how much of that nothing needs. */
export async function cacheUsage(node: Node, signal: AbortSignal): Promise<api.CacheUsageResponse> {
  const usage = await node.store.usage(residents(node), signal);
  return create(api.CacheUsageResponseSchema, {
    kinds: usage.kinds.map(({ kind, count, bytes, reclaimableBytes }) => ({
      kind,
      count,
      bytes: BigInt(bytes),
      reclaimableBytes: BigInt(reclaimableBytes),
    })),
    totalBytes: BigInt(usage.totalBytes),
    capacityBytes: BigInt(usage.capacityBytes),
    freeBytes: BigInt(usage.freeBytes),
    sharingUnknown: !usage.exact,
  });
}

/** CollectCache: removes what nothing needs, the least recently used first. */
export async function collectCache(
  node: Node,
  { dryRun, maxAgeMs, maxBytes }: api.CollectCacheRequest,
  signal: AbortSignal,
): Promise<api.CollectCacheResponse> {
  const collected = await node.store.collect({
    ...residents(node),
    dryRun,
    signal,
    ...(maxAgeMs > 0n && { maxAgeMs: Number(maxAgeMs) }),
    ...(maxBytes > 0n && { maxBytes: Number(maxBytes) }),
  });
  if (!dryRun) await removed(node, "store collected", collected);
  return collectedMessage(collected);
}

/** RemoveCache: removes what was named, unless something needs it. */
export async function removeCache(
  node: Node,
  { ids, dryRun }: api.RemoveCacheRequest,
  signal: AbortSignal,
): Promise<api.CollectCacheResponse> {
  const collected = await node.store.discard(ids, { ...residents(node), dryRun, signal });
  if (!dryRun) await removed(node, "removed from the store", collected);
  return collectedMessage(collected);
}

async function removed(node: Node, what: string, { removed: gone, freedBytes }: Collected): Promise<void> {
  if (gone.length === 0) return;
  node.log.info(what, { things: gone.map(({ kind, id }) => `${kind} ${id}`).join(", "), freedBytes });
  for (const { id } of gone) await node.slots.forget(id);
}

function collectedMessage({ removed, freedBytes, exact }: Collected): api.CollectCacheResponse {
  return create(api.CollectCacheResponseSchema, {
    removed: removed.map(entryMessage),
    freedBytes: BigInt(freedBytes),
    sharingUnknown: !exact,
  });
}

function entryMessage(entry: StoreEntry): api.CacheEntry {
  return create(api.CacheEntrySchema, {
    kind: entry.kind,
    id: entry.id,
    names: entry.names,
    ownBytes: BigInt(entry.ownBytes),
    totalBytes: BigInt(entry.totalBytes),
    created: timestampFromDate(entry.created),
    lastUsed: timestampFromDate(entry.lastUsed),
    keptBy: entry.keptBy,
  });
}
