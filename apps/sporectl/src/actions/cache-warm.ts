import type { Action } from "../cli/command.ts";
import type { CacheWarmSignature } from "../commands/warm.ts";
import { humanBytes } from "../output/human.ts";

export const action: Action<CacheWarmSignature> = async (context, { snapshot }) => {
  const node = await context.node();
  const bytes = Number((await node.warmCache({ snapshot }, { signal: context.signal })).bytes);
  if (context.json) context.printJson({ bytes });
  else context.print(`${snapshot}: ${humanBytes(bytes)} in memory`);
  return 0;
};
