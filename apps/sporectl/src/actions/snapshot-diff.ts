import type { Action } from "../cli/command.ts";
import type { SnapshotDiffSignature } from "../commands/snapshots.ts";
import { humanBytes } from "../output/human.ts";
import { createSnapshot } from "./snapshot-create.ts";

export const action: Action<SnapshotDiffSignature> = async (context, { machine }, options) => {
  const { memoryOwnBytes, diskOwnBytes } = await createSnapshot(context, machine, { ...options, diff: true });
  const disk = diskOwnBytes > 0n ? ` and ${humanBytes(diskOwnBytes)} of its disk` : "";
  context.note(
    `${humanBytes(memoryOwnBytes)} of its memory${disk} differ from the snapshot that it came from`,
  );
  return 0;
};
