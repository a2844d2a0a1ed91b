import type { Action } from "../cli/command.ts";
import type { SnapshotTagSignature } from "../commands/snapshots.ts";
import { snapshotDocument } from "../output/documents.ts";

export const action: Action<SnapshotTagSignature> = async (context, { snapshot, tag }, { force }) => {
  const node = await context.node();
  const tagged = await node.tagSnapshot({ snapshot, tag, force }, { signal: context.signal });
  if (context.json) context.printJson(snapshotDocument(tagged));
  else context.print(tagged.digest);
  return 0;
};
