import type { node } from "@sporelet/api";
import type { Context } from "../cli/context.ts";
import { millisecondsOf, timeOf } from "./documents.ts";
import { humanAge, humanBytes, shortDigest } from "./human.ts";
import type { Column } from "./table.ts";

/** Kinds in the order of the tables. */
const kinds = ["snapshot", "build", "blob", "partial", "machine"];

/** By kind, and within it the most recently used first. */
export function sortEntries(entries: readonly node.CacheEntry[]): node.CacheEntry[] {
  const usedMs = ({ lastUsed }: node.CacheEntry) => (lastUsed ? millisecondsOf(lastUsed) : 0);
  return entries.toSorted((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || usedMs(b) - usedMs(a));
}

export function cacheColumns(nowMs: number): Column<node.CacheEntry>[] {
  return [
    { title: "KIND", cell: ({ kind }) => kind },
    { title: "ID", cell: ({ id }) => shortEntryId(id) },
    { title: "NAMES", cell: ({ names }) => some(names, 2) },
    { title: "OWN", align: "right", cell: ({ ownBytes }) => humanBytes(ownBytes) },
    { title: "TOTAL", align: "right", cell: ({ totalBytes }) => humanBytes(totalBytes) },
    {
      title: "LAST USED",
      align: "right",
      cell: ({ lastUsed }) => (lastUsed ? humanAge(millisecondsOf(lastUsed), nowMs) : ""),
    },
    { title: "KEPT BY", cell: ({ keptBy }) => some(keptBy, 2) },
  ];
}

/** `stage/key` and digests with 12 digits, which suffice to name them. */
export function shortEntryId(id: string): string {
  const slash = id.indexOf("/");
  return slash < 0 ? shortDigest(id) : id.slice(0, slash + 1) + shortDigest(id.slice(slash + 1));
}

/** `a, b, +3` */
function some(words: readonly string[], count: number): string {
  const rest = words.length - count;
  return [...words.slice(0, count), ...(rest > 0 ? [`+${rest}`] : [])].join(", ");
}

export function usageColumns(): Column<{
  kind: string;
  count: number;
  bytes: bigint;
  reclaimable?: bigint;
}>[] {
  return [
    { title: "KIND", cell: ({ kind }) => kind },
    { title: "COUNT", align: "right", cell: ({ count }) => String(count) },
    { title: "SIZE", align: "right", cell: ({ bytes }) => humanBytes(bytes) },
    {
      title: "RECLAIMABLE",
      align: "right",
      cell: ({ reclaimable }) => (reclaimable === undefined ? "" : humanBytes(reclaimable)),
    },
  ];
}

/** An entry as `--json` prints it. Field names are stable. */
export function entryDocument(entry: node.CacheEntry) {
  return {
    kind: entry.kind,
    id: entry.id,
    names: entry.names,
    ownBytes: Number(entry.ownBytes),
    totalBytes: Number(entry.totalBytes),
    created: timeOf(entry.created),
    lastUsed: timeOf(entry.lastUsed),
    keptBy: entry.keptBy,
  };
}

/** What was removed, or would be. */
export function reportCollected(
  context: Context,
  { removed, freedBytes, sharingUnknown }: node.CollectCacheResponse,
  dryRun: boolean,
): void {
  if (context.json) {
    context.printJson({
      dryRun,
      removed: removed.map(entryDocument),
      freedBytes: Number(freedBytes),
      sharingUnknown,
    });
    return;
  }
  if (context.quiet) {
    context.print(...removed.map(({ id }) => id));
    return;
  }
  for (const { kind, id, names } of removed) {
    const named = names.length > 0 ? ` (${some(names, 2)})` : "";
    context.print(`${dryRun ? "would remove" : "removed"} ${kind} ${shortEntryId(id)}${named}`);
  }
  context.print(
    removed.length === 0
      ? "nothing to remove"
      : `${dryRun ? "would free" : "freed"} ${humanBytes(freedBytes)}`,
  );
  if (removed.length > 0) noteSharing(context, sharingUnknown);
}

export function noteSharing(context: Context, sharingUnknown: boolean): void {
  if (!sharingUnknown) return;
  context.note("the file system does not tell which blocks files share: each file counts in full");
}
