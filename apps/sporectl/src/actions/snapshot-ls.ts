import type { Action } from "../cli/command.ts";
import type { SnapshotLsSignature } from "../commands/snapshots.ts";
import { snapshotDocument } from "../output/documents.ts";
import { snapshotColumns, snapshotRows } from "../output/snapshots.ts";
import { table } from "../output/table.ts";

export const action: Action<SnapshotLsSignature> = async (context) => {
  const node = await context.node();
  const { snapshots } = await node.listSnapshots({}, { signal: context.signal });
  if (context.json) context.printJson(snapshots.map(snapshotDocument));
  else if (context.quiet) context.print(...snapshots.map((snapshot) => snapshot.digest));
  else
    context.print(...table(snapshotColumns(context.io.now()), snapshotRows(snapshots), context.style.bold));
  return 0;
};
