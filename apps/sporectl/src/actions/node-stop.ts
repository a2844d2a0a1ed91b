import type { Action } from "../cli/command.ts";
import type { NodeStopSignature } from "../commands/node.ts";
import { createProgress } from "../output/progress.ts";

export const action: Action<NodeStopSignature> = async (context, _args, { machines }) => {
  // Stopping the machines needs a spored that knows them; for its own end none is started.
  const node = machines ? await context.node() : await context.runningNode();
  if (node === undefined) {
    context.note(`no spored runs for ${context.home}`);
    return 0;
  }
  using progress = createProgress(context);
  progress.waiting(machines ? "stopping all machines" : "ending spored");
  await node.shutdownNode({ stopMachines: machines }, { signal: context.signal });
  progress.end();
  context.note("spored ended");
  return 0;
};
