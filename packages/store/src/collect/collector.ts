import { statfs } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";
import { snapshotDirectory } from "../snapshot.ts";
import { chooseItems, requireDiscardable } from "./choose.ts";
import { digestsIn, type FoundItem, type InventorySources, parentOf, type Residents } from "./inventory.ts";
import { type EntryKind, entryKinds, lineageOf, planCollection } from "./plan.ts";
import { type RemovalContext, removeCached, removeSnapshot } from "./removal.ts";
import { type StoreEntry, type Survey, takeSurvey } from "./survey.ts";

export interface Listing {
  entries: StoreEntry[];
  /** False where the file system does not tell shared blocks: then each file counts in full. */
  exact: boolean;
}

export interface Usage {
  kinds: {
    kind: EntryKind;
    count: number;
    /** Blocks of this kind, each counted once. */
    bytes: number;
    /** Of these, what removing all that nothing needs would free. */
    reclaimableBytes: number;
  }[];
  /** Blocks in use, each counted once. */
  totalBytes: number;
  /** Of the file system that the store is on. */
  capacityBytes: number;
  freeBytes: number;
  exact: boolean;
}

export interface DiscardOptions extends Residents {
  /** Only say what would be removed. Default: false. */
  dryRun?: boolean;
  signal?: AbortSignal | undefined;
}

export interface CollectOptions extends DiscardOptions {
  /** Take only what was not used for so long. Default: whatever nothing needs. */
  maxAgeMs?: number | undefined;
  /** Take only until the store takes no more than this. Default: all that nothing needs. */
  maxBytes?: number | undefined;
}

export interface Collected {
  /** In the order of their removal. Sizes are those before it. */
  removed: StoreEntry[];
  /** What it freed, or would have. */
  freedBytes: number;
  exact: boolean;
}

export interface Collector {
  entries(residents: Residents, signal?: AbortSignal): Promise<Listing>;
  usage(residents: Residents, signal?: AbortSignal): Promise<Usage>;
  collect(options: CollectOptions): Promise<Collected>;
  discard(ids: readonly string[], options: DiscardOptions): Promise<Collected>;
}

type Sources = Omit<InventorySources, "tags" | "residents"> & RemovalContext;

export function createCollector(sources: Sources, now: () => number = Date.now): Collector {
  const survey = async (residents: Residents, signal?: AbortSignal) =>
    await takeSurvey({ ...sources, tags: await sources.tags.read(), residents }, signal);

  /** Removes what was planned, but for what somebody has come to need since. */
  async function removeAll(
    { items, shares, numberOf, entryOf, exact }: Survey,
    planned: readonly FoundItem[],
    { inUse, dryRun = false, signal }: DiscardOptions,
    takeNames: boolean,
  ): Promise<Collected> {
    const account = shares.account();
    const result: Collected = { removed: [], freedBytes: 0, exact };
    const newcomers = createNewcomers(sources, items);
    const spared = new Set<FoundItem>();
    for (const item of planned) {
      signal?.throwIfAborted();
      const remove = async () => {
        if (item.kind !== "snapshot") return await removeCached(sources, item);
        const digest = item.id as Digest;
        if (spared.has(item) || (await newcomers.need(digest))) return false;
        return await removeSnapshot(sources, digest, { inUse, lastUsedMs: item.lastUsedMs, takeNames });
      };
      if (dryRun || (await remove())) {
        result.removed.push(entryOf(item));
        result.freedBytes += account.remove(numberOf(item));
      } else {
        for (const ancestor of lineageOf(items).ancestorsOf(item)) spared.add(ancestor);
      }
    }
    return result;
  }

  return {
    async entries(residents, signal) {
      const { items, entryOf, exact } = await survey(residents, signal);
      return { entries: items.map(entryOf), exact };
    },

    async usage(residents, signal) {
      const { items, shares, kept, exact } = await survey(residents, signal);
      const file = await statfs(sources.layout.root);
      const unneeded = (owner: number) => {
        const item = items[owner];
        return item !== undefined && item.kind !== "machine" && !kept.has(item);
      };
      const kinds = entryKinds.map((kind) => {
        const ofKind = (owner: number) => items[owner]?.kind === kind;
        return {
          kind,
          count: items.filter((item) => item.kind === kind).length,
          bytes: shares.unionOf(ofKind),
          reclaimableBytes: shares.freedBy(unneeded, ofKind),
        };
      });
      return {
        kinds,
        totalBytes: shares.unionOf(() => true),
        capacityBytes: file.blocks * file.bsize,
        freeBytes: file.bavail * file.bsize,
        exact,
      };
    },

    async collect(options) {
      const { maxAgeMs, maxBytes, signal } = options;
      try {
        const found = await survey(options, signal);
        const account = found.shares.account();
        const space = {
          usedBytes: found.shares.unionOf(() => true),
          remove: (item: FoundItem) => account.remove(found.numberOf(item)),
        };
        const planned = planCollection(found.items, { nowMs: now(), maxAgeMs, maxBytes }, space);
        return await removeAll(found, planned, options, false);
      } catch (error) {
        throw SporeletError.from(error, { operation: "collect what is not needed in the store" });
      }
    },

    async discard(ids, options) {
      try {
        const found = await survey(options, options.signal);
        const chosen = chooseItems(found.items, ids);
        requireDiscardable(found.items, chosen);
        return await removeAll(found, chosen, options, true);
      } catch (error) {
        throw SporeletError.from(error, { operation: "remove from the store", subject: ids.join(", ") });
      }
    },
  };
}

/** Snapshots that came since the survey: their ancestors are needed, whatever the plan says. */
function createNewcomers({ layout }: Sources, items: readonly FoundItem[]) {
  const parents = new Map(items.map(({ id, parent }) => [id, parent]));
  const needed = new Set<string>();
  return {
    async need(digest: Digest): Promise<boolean> {
      for (const newcomer of await digestsIn(layout.snapshots)) {
        if (parents.has(newcomer)) continue;
        let ancestor: string | undefined = await parentOf(snapshotDirectory(layout, newcomer));
        parents.set(newcomer, ancestor);
        for (; ancestor !== undefined && !needed.has(ancestor); ancestor = parents.get(ancestor)) {
          needed.add(ancestor);
        }
      }
      return needed.has(digest);
    },
  };
}
