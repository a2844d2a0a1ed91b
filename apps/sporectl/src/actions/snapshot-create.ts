import type { Action } from "../cli/command.ts";
import { usageError } from "../cli/usage.ts";
import type { SnapshotCreateSignature } from "../commands/snapshots.ts";
import { snapshotDocument } from "../output/documents.ts";
import { humanMs } from "../output/human.ts";
import { createProgress } from "../output/progress.ts";

export const action: Action<SnapshotCreateSignature> = async (context, { machine }, { tag, force }) => {
  if (tag === undefined)
    throw usageError(context.command, "a name for the snapshot is missing", "give one with -t NAME[:TAG]");
  const node = await context.node();
  using progress = createProgress(context);
  progress.waiting(`freezing ${machine}`);
  const snapshot = await node.createSnapshot({ machine, tag, force }, { signal: context.signal });
  progress.end();
  if (context.json) context.printJson(snapshotDocument(snapshot));
  else context.print(snapshot.digest);
  context.note(`${snapshot.tags[0] ?? tag}: ${machine} was paused for ${humanMs(snapshot.pauseMs)}`);
  return 0;
};
