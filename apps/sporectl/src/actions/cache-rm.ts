import type { Action } from "../cli/command.ts";
import type { CacheRmSignature } from "../commands/cache.ts";
import { reportCollected } from "../output/cache.ts";

export const action: Action<CacheRmSignature> = async (context, { ids }, { dryRun }) => {
  const node = await context.node();
  reportCollected(context, await node.removeCache({ ids, dryRun }, { signal: context.signal }), dryRun);
  return 0;
};
