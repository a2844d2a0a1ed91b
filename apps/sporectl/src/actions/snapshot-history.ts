import type { Action } from "../cli/command.ts";
import type { SnapshotHistorySignature } from "../commands/snapshots.ts";
import { historyColumns, historyDocument } from "../output/history.ts";
import { table } from "../output/table.ts";

export const action: Action<SnapshotHistorySignature> = async (context, { snapshot }) => {
  const node = await context.node();
  const { entries } = await node.snapshotHistory({ snapshot }, { signal: context.signal });
  if (context.json) context.printJson(entries.map(historyDocument));
  else if (context.quiet) context.print(...entries.flatMap(({ digest }) => digest || []));
  else context.print(...table(historyColumns(context.io.now()), entries, context.style.bold));
  return 0;
};
