/** Kinds of things in the store that take space, in the order in which they are given up. */
export const entryKinds = ["partial", "blob", "build", "snapshot", "machine"] as const;
export type EntryKind = (typeof entryKinds)[number];

/** What the planner has to know of a thing. */
export interface Item {
  kind: EntryKind;
  id: string;
  lastUsedMs: number;
  /** Names that keep a snapshot. */
  tags: readonly string[];
  /** What else keeps it now: machines, and work that goes on. */
  users: readonly string[];
  /** The snapshot that this one is a difference to, by its id. It need not be there. */
  parent?: string | undefined;
  /** The snapshot whose state this host cannot restore, and that this one is run instead of, by its id. */
  standsInFor?: string | undefined;
}

export interface Limits {
  nowMs: number;
  /** Take only what was not used for so long. Default: whatever nothing needs. */
  maxAgeMs?: number | undefined;
  /** Stop when no more than this is in use. Default: take all. */
  maxBytes?: number | undefined;
}

/** Sizes, in which what several have is counted once. */
export interface Space {
  /** In use before anything is removed. */
  usedBytes: number;
  /** @returns what is freed by removing this too, after all that was removed before. */
  remove(item: Item): number;
}

/** What has arrived of a blob is worth going on with for so long. */
export const partialAgeMs = 24 * 3_600_000;

/** Why each item stays; items that nothing keeps are not in it. */
export function keptBy<T extends Item>(items: readonly T[]): Map<T, string[]> {
  const kept = new Map<T, string[]>();
  const keep = (item: T, reason: string) => {
    const reasons = kept.get(item);
    if (reasons === undefined) kept.set(item, [reason]);
    else if (!reasons.includes(reason)) reasons.push(reason);
  };
  for (const item of items) {
    for (const tag of item.tags) keep(item, `tag ${tag}`);
    for (const user of item.users) keep(item, user);
  }
  for (const original of items) {
    const [tag] = original.tags;
    const standIn = tag === undefined ? undefined : standInOf(original, items);
    if (standIn !== undefined) keep(standIn, `stands in for ${tag}`);
  }
  const lineage = lineageOf(items);
  for (const item of [...kept.keys()]) {
    let child: T = item;
    for (const ancestor of lineage.ancestorsOf(item)) {
      keep(ancestor, `child ${shortId(child.id)}`);
      child = ancestor;
    }
  }
  return kept;
}

/** The one that was used last: others were made before this host's VMM was replaced, or its CPU. */
function standInOf<T extends Item>({ id }: T, items: readonly T[]): T | undefined {
  return items
    .filter((item) => item.kind === "snapshot" && item.standsInFor === id)
    .reduce<T | undefined>(
      (best, item) => (best === undefined || item.lastUsedMs > best.lastUsedMs ? item : best),
      undefined,
    );
}

/**
 * What to remove, in order: transfers that nobody went on with, blobs, results of builds, then snapshots
 * without a name; among each the least recently used first. A snapshot goes after its children, and is as
 * recently used as they are: deltas are made against it. What something needs is never in it.
 */
export function planCollection<T extends Item>(
  items: readonly T[],
  { nowMs, maxAgeMs = 0, maxBytes }: Limits,
  space: Space,
): T[] {
  const kept = keptBy(items);
  const lineage = lineageOf(items);
  const rank = (item: T) => entryKinds.indexOf(item.kind);
  const candidates = items
    .filter((item) => item.kind !== "machine" && !kept.has(item))
    .map((item) => {
      const descendants = lineage.descendantsOf(item);
      const lastUsedMs = Math.max(item.lastUsedMs, ...descendants.map((each) => each.lastUsedMs));
      const depth = lineage.ancestorsOf(item).length;
      return { item, lastUsedMs, depth };
    })
    .filter(
      ({ item, lastUsedMs }) => nowMs - lastUsedMs >= (item.kind === "partial" ? partialAgeMs : maxAgeMs),
    )
    .sort((a, b) => rank(a.item) - rank(b.item) || a.lastUsedMs - b.lastUsedMs || b.depth - a.depth);
  const planned: T[] = [];
  let usedBytes = space.usedBytes;
  for (const { item } of candidates) {
    const enough = maxBytes !== undefined && usedBytes <= maxBytes;
    if (enough && item.kind !== "partial") break;
    usedBytes -= space.remove(item);
    planned.push(item);
  }
  return planned;
}

/** Who comes from whom, among the snapshots that are there. */
export function lineageOf<T extends Item>(items: readonly T[]) {
  const snapshots = items.filter(({ kind }) => kind === "snapshot");
  const byId = new Map(snapshots.map((item) => [item.id, item]));
  const children = Map.groupBy(
    snapshots.filter(({ parent }) => parent !== undefined),
    ({ parent }) => parent,
  );
  return {
    /** The nearest first. */
    ancestorsOf(item: T): T[] {
      const ancestors: T[] = [];
      let parent = item.kind === "snapshot" && item.parent !== undefined ? byId.get(item.parent) : undefined;
      // Digests cannot form a circle; files that were written to by hand can.
      while (parent !== undefined && parent !== item && !ancestors.includes(parent)) {
        ancestors.push(parent);
        parent = parent.parent === undefined ? undefined : byId.get(parent.parent);
      }
      return ancestors;
    },
    descendantsOf(item: T): T[] {
      const found = new Set<T>();
      const queue = [item];
      for (const each of queue) {
        if (each.kind !== "snapshot") continue;
        for (const child of children.get(each.id) ?? []) {
          if (child === item || found.has(child)) continue;
          found.add(child);
          queue.push(child);
        }
      }
      return [...found];
    },
    childrenOf: (item: T): T[] => (item.kind === "snapshot" ? (children.get(item.id) ?? []) : []),
  };
}

/** As people write digests. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}
