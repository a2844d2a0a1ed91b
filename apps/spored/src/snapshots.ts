import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { type HistoryEntry, normalizeReference } from "@sporelet/store";
import { residents } from "./cache.ts";
import { snapshotMessage } from "./messages.ts";
import type { Node } from "./node.ts";

/** ListSnapshots: those that cannot be read are told in the log, and do not hide the others. */
export async function listSnapshots(node: Node): Promise<api.ListSnapshotsResponse> {
  const snapshots = await node.store.list((problem) => node.log.error("snapshot not readable", problem));
  return create(api.ListSnapshotsResponseSchema, {
    snapshots: snapshots.map((each) => snapshotMessage(each)),
  });
}

/**
 * RemoveSnapshot: refused while machines that run come from it, or snapshots that are kept have it as their
 * parent, unless forced; they go on.
 */
export async function removeSnapshot(
  node: Node,
  request: api.RemoveSnapshotRequest,
): Promise<{ untagged: string[]; deleted: string[] }> {
  const running = (digest: string) =>
    [...node.machines].flatMap(({ name, record, live }) =>
      record.snapshotDigest === digest &&
      (live !== undefined || record.state === "starting" || record.state === "suspended")
        ? [name]
        : [],
    );
  const { digest, untagged, removed } = await node.store.remove(request.snapshot, {
    inUse: running,
    residents: residents(node),
    force: request.force,
    dryRun: request.dryRun,
  });
  // Slots are there for speed, and no reason to keep what somebody removes.
  if (removed && !request.dryRun) await node.slots.forget(digest);
  return { untagged, deleted: removed ? [digest] : [] };
}

/**
 * Removes a snapshot that nobody gave a name to in the end, unless a machine needs it: it would only take space. It is
 * for when something else has failed, so what stands against it is at most logged.
 */
export async function removeUnnamed(node: Node, digest: string): Promise<void> {
  try {
    const { tags } = await node.store.resolve(digest);
    if (tags.length === 0) await node.store.remove(digest, { inUse: residents(node).inUse });
  } catch (error) {
    const { code } = SporeletError.from(error, { operation: "remove the snapshot", subject: digest });
    // Somebody else uses it, or has removed it.
    if (code === "not_found" || code === "failed_precondition") return;
    node.log.error("unnamed snapshot not removed", error, { digest });
  }
}

/** TagSnapshot: gives a snapshot one more name. */
export async function tagSnapshot(
  node: Node,
  { snapshot, tag, force }: api.TagSnapshotRequest,
): Promise<api.Snapshot> {
  const name = normalizeReference(tag);
  if (!force) await requireFree(node, name, snapshot);
  return snapshotMessage(await node.store.tag(snapshot, name));
}

/** A name that a snapshot has already is no reason to refuse it that name. */
async function requireFree(node: Node, name: string, snapshot: string): Promise<void> {
  const { digest } = await node.store.resolve(snapshot);
  const holder = (await node.store.list(() => {})).find(({ tags }) => tags.includes(name));
  if (holder === undefined || holder.digest === digest) return;
  throw new SporeletError({
    code: "already_exists",
    operation: "name the snapshot",
    subject: name,
    reason: `another snapshot has this name, ${holder.digest.slice(0, 19)}`,
    hint: "choose another name, or --force moves this one",
  });
}

/** SnapshotHistory: the snapshot and its ancestors, as far as they are known. */
export async function snapshotHistory(
  node: Node,
  { snapshot }: api.SnapshotRef,
): Promise<api.SnapshotHistoryResponse> {
  const entries = await node.store.history(snapshot);
  return create(api.SnapshotHistoryResponseSchema, { entries: entries.map(historyMessage) });
}

function historyMessage({ digest, snapshot, publishedBytes = 0 }: HistoryEntry): api.HistoryEntry {
  const known = {
    digest: digest ?? "",
    publishedBytes: BigInt(publishedBytes),
    present: snapshot !== undefined,
  };
  if (snapshot === undefined) return create(api.HistoryEntrySchema, known);
  const { tags, config } = snapshot;
  const { memory, disk } = config.files;
  return create(api.HistoryEntrySchema, {
    ...known,
    tags,
    created: timestampFromDate(new Date(config.created)),
    layer: config.layer,
    source: config.source,
    memoryOwnBytes: BigInt(memory.ownBytes ?? memory.usedBytes),
    diskOwnBytes: BigInt(disk?.ownBytes ?? disk?.usedBytes ?? 0),
  });
}
