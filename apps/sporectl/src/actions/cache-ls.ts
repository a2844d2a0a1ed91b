import type { Action } from "../cli/command.ts";
import type { CachePlainSignature } from "../commands/cache.ts";
import { cacheColumns, entryDocument, noteSharing, sortEntries } from "../output/cache.ts";
import { table } from "../output/table.ts";

export const action: Action<CachePlainSignature> = async (context) => {
  const node = await context.node();
  const { entries, sharingUnknown } = await node.listCache({}, { signal: context.signal });
  const sorted = sortEntries(entries);
  if (context.json) context.printJson({ entries: sorted.map(entryDocument), sharingUnknown });
  else if (context.quiet) context.print(...sorted.map(({ id }) => id));
  else {
    context.print(...table(cacheColumns(context.io.now()), sorted, context.style.bold));
    noteSharing(context, sharingUnknown);
  }
  return 0;
};
