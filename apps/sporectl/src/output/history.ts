import type { node } from "@sporelet/api";
import { millisecondsOf, timeOf } from "./documents.ts";
import { humanAge, humanBytes, shortDigest } from "./human.ts";
import type { Column } from "./table.ts";

/** Columns of `snapshot history`: of an ancestor that is not here only some are known. */
export function historyColumns(nowMs: number): Column<node.HistoryEntry>[] {
  const ifPresent = (cell: (entry: node.HistoryEntry) => string) => (entry: node.HistoryEntry) =>
    entry.present ? cell(entry) : "-";
  return [
    { title: "LAYER", align: "right", cell: ifPresent(({ layer }) => String(layer)) },
    { title: "DIGEST", cell: ({ digest }) => (digest === "" ? "<unknown>" : shortDigest(digest)) },
    { title: "NAMES", cell: ({ present, tags }) => (present ? tags.join(", ") : "<not here>") },
    {
      title: "AGE",
      align: "right",
      cell: ifPresent(({ created }) => (created ? humanAge(millisecondsOf(created), nowMs) : "")),
    },
    { title: "SOURCE", cell: ({ source }) => source },
    { title: "MEMORY", align: "right", cell: ifPresent(({ memoryOwnBytes }) => humanBytes(memoryOwnBytes)) },
    { title: "DISK", align: "right", cell: ifPresent(({ diskOwnBytes }) => humanBytes(diskOwnBytes)) },
    {
      title: "PUBLISHED",
      align: "right",
      cell: ({ publishedBytes }) => (publishedBytes > 0n ? humanBytes(publishedBytes) : "-"),
    },
  ];
}

/** An entry as `--json` prints it; null where something is not known. Field names are stable. */
export function historyDocument(entry: node.HistoryEntry) {
  const { present } = entry;
  return {
    digest: entry.digest || null,
    present,
    tags: entry.tags,
    created: timeOf(entry.created),
    layer: present ? entry.layer : null,
    source: present ? entry.source : null,
    memoryOwnBytes: present ? Number(entry.memoryOwnBytes) : null,
    diskOwnBytes: present ? Number(entry.diskOwnBytes) : null,
    publishedBytes: entry.publishedBytes > 0n ? Number(entry.publishedBytes) : null,
  };
}
