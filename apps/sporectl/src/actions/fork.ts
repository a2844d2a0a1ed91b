import type { node as api } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { ForkSignature } from "../commands/fork.ts";
import { environmentOf } from "../exec/environment.ts";
import { machineDocument } from "../output/documents.ts";
import { humanMs } from "../output/human.ts";
import { portsOf, printStarted, startedMachines } from "./start-machines.ts";

export const action: Action<ForkSignature> = async (context, { machine }, options) => {
  const { count } = options;
  const env = environmentOf(context, options.env, options.envFile);
  const node = await context.node();
  const snapshot = options.publishAll ? (await node.inspectMachine({ machine })).snapshotDigest : "";
  const ports = await portsOf(context, node, snapshot, options.publish, options.publishAll);
  const name = options.name ?? "";
  const request = { machine, name, count, ports, env, remove: options.rm, timeoutMs: options.timeout };
  const events = node.fork(request, { signal: context.signal });
  let instant: api.Forked | undefined;
  const onForked = (forked: api.Forked) => {
    instant = forked;
  };
  const title = count > 1 ? `forking ${machine} ${count} times` : `forking ${machine}`;
  const machines = await startedMachines(context, node, title, events, onForked);
  if (context.json) {
    const { digest, pauseMs } = instant ?? {};
    context.printJson({ snapshot: digest, pauseMs, machines: machines.map(machineDocument) });
  } else printStarted(context, machines);
  if (instant !== undefined) context.note(`${machine} stood still for ${humanMs(instant.pauseMs)}`);
  return 0;
};
