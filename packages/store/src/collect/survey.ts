import { type FoundItem, type InventorySources, takeInventory } from "./inventory.ts";
import { type Measurement, measure } from "./measure.ts";
import { type EntryKind, keptBy } from "./plan.ts";
import { createShares, type Shares } from "./shares.ts";
import { groupBlocks } from "./sweep.ts";

/** Something in the store that takes space. */
export interface StoreEntry {
  kind: EntryKind;
  /** Digest, or stage/key of a build's result, or id of a machine. */
  id: string;
  /** Names of a snapshot or a machine; what a blob is. */
  names: string[];
  /** Space that would be free without it. */
  ownBytes: number;
  /** Space of all its blocks, those that it shares included. */
  totalBytes: number;
  created: Date;
  lastUsed: Date;
  /** Why it stays: "tag hello:latest", "machine web-1", "child 3f2a…", or who works with it. */
  keptBy: string[];
}

/** All that takes space, and which blocks it has. */
export interface Survey {
  items: readonly FoundItem[];
  /** Owners are the places in `items`. */
  shares: Shares;
  numberOf(item: FoundItem): number;
  /** Why each item stays. */
  kept: ReadonlyMap<FoundItem, string[]>;
  entryOf(item: FoundItem): StoreEntry;
  /** False where the file system does not tell shared blocks: then each file counts in full. */
  exact: boolean;
}

export async function takeSurvey(sources: InventorySources, signal?: AbortSignal): Promise<Survey> {
  const items = await takeInventory(sources);
  const measurements: Measurement[] = [];
  for (const { path, kind } of items) {
    measurements.push(await measure(path, { recursive: kind === "build", signal }));
  }
  const shares = createShares(await groupBlocks(measurements), items.length);
  const kept = keptBy(items);
  const numbers = new Map(items.map((item, number) => [item, number]));
  const numberOf = (item: FoundItem) => numbers.get(item) ?? -1;
  return {
    items,
    shares,
    numberOf,
    kept,
    entryOf: (item) => ({
      kind: item.kind,
      id: item.id,
      names: item.names,
      ownBytes: shares.ownOf(numberOf(item)),
      totalBytes: shares.totalOf(numberOf(item)),
      created: new Date(item.createdMs),
      lastUsed: new Date(item.lastUsedMs),
      keptBy: kept.get(item) ?? [],
    }),
    exact: measurements.every(({ exact }) => exact),
  };
}
