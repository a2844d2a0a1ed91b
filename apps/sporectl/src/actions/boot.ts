import type { Action } from "../cli/command.ts";
import type { BootSignature } from "../commands/run.ts";
import { environmentOf } from "../exec/environment.ts";
import { portsOf, printStarted, startedMachines } from "./start-machines.ts";

export const action: Action<BootSignature> = async (context, { snapshot }, options) => {
  const env = environmentOf(context, options.env, options.envFile);
  const node = await context.node();
  const ports = await portsOf(context, node, snapshot, options.publish, options.publishAll);
  const request = {
    snapshot,
    name: options.name ?? "",
    ports,
    env,
    remove: options.rm,
    timeoutMs: options.timeout,
  };
  const events = node.boot(request, { signal: context.signal });
  printStarted(context, await startedMachines(context, node, `booting ${snapshot}`, events));
  return 0;
};
