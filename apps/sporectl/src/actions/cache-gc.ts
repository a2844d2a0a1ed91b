import type { Action } from "../cli/command.ts";
import type { CacheGcSignature } from "../commands/cache.ts";
import { reportCollected } from "../output/cache.ts";

export const action: Action<CacheGcSignature> = async (context, _args, { dryRun, maxAge, maxSize }) => {
  const node = await context.node();
  const request = { dryRun, maxAgeMs: BigInt(maxAge), maxBytes: BigInt(maxSize) };
  reportCollected(context, await node.collectCache(request, { signal: context.signal }), dryRun);
  return 0;
};
