import type { node } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { Context } from "../cli/context.ts";
import { usageError } from "../cli/usage.ts";
import type { SnapshotCreateSignature } from "../commands/snapshots.ts";
import { snapshotDocument } from "../output/documents.ts";
import { humanMs } from "../output/human.ts";
import { createProgress } from "../output/progress.ts";

export const action: Action<SnapshotCreateSignature> = async (context, { machine }, options) => {
  await createSnapshot(context, machine, { ...options, diff: false });
  return 0;
};

/** Freezes a machine and prints the snapshot. */
export async function createSnapshot(
  context: Context,
  machine: string,
  { tag, force, diff }: { tag: string | undefined; force: boolean; diff: boolean },
): Promise<node.Snapshot> {
  if (tag === undefined)
    throw usageError(context.command, "a name for the snapshot is missing", "give one with -t NAME[:TAG]");
  const node = await context.node();
  using progress = createProgress(context);
  progress.waiting(`freezing ${machine}`);
  const snapshot = await node.createSnapshot({ machine, tag, force, diff }, { signal: context.signal });
  progress.end();
  if (context.json) context.printJson(snapshotDocument(snapshot));
  else context.print(snapshot.digest);
  context.note(`${snapshot.tags[0] ?? tag}: ${machine} was paused for ${humanMs(snapshot.pauseMs)}`);
  return snapshot;
}
