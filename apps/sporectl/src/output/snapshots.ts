import type { node } from "@sporelet/api";
import { millisecondsOf } from "./documents.ts";
import { humanAge, humanBytes, humanMs, humanTime, shortDigest } from "./human.ts";
import type { Style } from "./style.ts";
import { type Column, pairs } from "./table.ts";

/** One row of `snapshot ls`: a snapshot has one for each name, or one without. */
export interface SnapshotRow {
  tag: string;
  snapshot: node.Snapshot;
}

export function snapshotRows(snapshots: readonly node.Snapshot[]): SnapshotRow[] {
  return snapshots.flatMap((snapshot) =>
    (snapshot.tags.length > 0 ? snapshot.tags : ["<none>"]).map((tag) => ({ tag, snapshot })),
  );
}

export function snapshotColumns(nowMs: number): Column<SnapshotRow>[] {
  return [
    { title: "NAME", cell: ({ tag }) => tag },
    { title: "DIGEST", cell: ({ snapshot }) => shortDigest(snapshot.digest) },
    { title: "LAYER", align: "right", cell: ({ snapshot }) => String(snapshot.layer) },
    {
      title: "AGE",
      align: "right",
      cell: ({ snapshot }) => (snapshot.created ? humanAge(millisecondsOf(snapshot.created), nowMs) : ""),
    },
    { title: "MEMORY", align: "right", cell: ({ snapshot }) => humanBytes(snapshot.memoryUsedBytes) },
    {
      title: "DISK",
      align: "right",
      cell: ({ snapshot }) => (snapshot.diskBytes > 0n ? humanBytes(snapshot.diskUsedBytes) : "-"),
    },
    {
      title: "ADDED",
      align: "right",
      cell: ({ snapshot }) =>
        snapshot.parent === "" ? "-" : humanBytes(snapshot.memoryOwnBytes + snapshot.diskOwnBytes),
    },
    { title: "SERVICES", cell: ({ snapshot }) => snapshot.services.join(", ") },
  ];
}

/** The lines of `snapshot inspect` for a person. */
export function snapshotLines(snapshot: node.Snapshot, nowMs: number, style: Style): string[] {
  const used = (usedBytes: bigint, bytes: bigint, ownBytes: bigint) => {
    const own = snapshot.parent === "" ? "" : `, ${humanBytes(ownBytes)} not as in the parent`;
    return bytes > 0n ? `${humanBytes(usedBytes)} of ${humanBytes(bytes)}${own}` : "";
  };
  const created = snapshot.created && millisecondsOf(snapshot.created);
  return pairs(
    [
      ["digest", style.bold(snapshot.digest)],
      ["names", snapshot.tags.join(", ")],
      ["created", created === undefined ? "" : humanTime(created, nowMs)],
      ["layer", String(snapshot.layer)],
      ["parent", snapshot.parent],
      ["source", snapshot.source],
      [
        "vmm",
        [`${snapshot.vmm} ${snapshot.vmmVersion}`.trim(), snapshot.accelerator, snapshot.cpuModel]
          .filter((word) => word !== "")
          .join(", "),
      ],
      ["kernel", snapshot.kernel],
      ["agent", snapshot.agentVersion],
      ["cpus", snapshot.cpus > 0 ? String(snapshot.cpus) : ""],
      ["memory", used(snapshot.memoryUsedBytes, snapshot.memoryBytes, snapshot.memoryOwnBytes)],
      ["disk", used(snapshot.diskUsedBytes, snapshot.diskBytes, snapshot.diskOwnBytes)],
      ["ports", snapshot.ports.map(({ guest }) => guest).join(", ")],
      ["services", snapshot.services.join(", ")],
      ["pause", snapshot.pauseMs > 0 ? humanMs(snapshot.pauseMs) : ""],
      ["directory", snapshot.directory],
    ],
    style.dim,
  );
}
