import { create } from "@bufbuild/protobuf";
import { node as api } from "@sporelet/api";
import { snapshotMessage } from "./messages.ts";
import type { Node } from "./node.ts";

/** ListSnapshots: those that cannot be read are told in the log, and do not hide the others. */
export async function listSnapshots(node: Node): Promise<api.ListSnapshotsResponse> {
  const snapshots = await node.store.list((problem) => node.log.error("snapshot not readable", problem));
  return create(api.ListSnapshotsResponseSchema, {
    snapshots: snapshots.map((each) => snapshotMessage(each)),
  });
}

/** RemoveSnapshot: refused while machines run from it, unless forced; they go on. */
export async function removeSnapshot(
  node: Node,
  request: api.RemoveSnapshotRequest,
): Promise<{ untagged: string[]; deleted: string[] }> {
  const inUse = (digest: string) =>
    [...node.machines].flatMap(({ name, record, live }) =>
      record.snapshotDigest === digest && (live !== undefined || record.state === "starting") ? [name] : [],
    );
  const { digest, untagged, removed } = await node.store.remove(request.snapshot, {
    inUse,
    force: request.force,
  });
  return { untagged, deleted: removed ? [digest] : [] };
}
