import type { NodeClient, node } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Context } from "../cli/context.ts";
import type { PortOption } from "../cli/parse.ts";
import { machineDocument } from "../output/documents.ts";
import { readyColumns } from "../output/machines.ts";
import { createProgress } from "../output/progress.ts";
import { stepOf } from "../output/steps.ts";
import { table } from "../output/table.ts";
import { createTransferSteps } from "../output/transfers.ts";
import { cleanedUpMachines } from "./cleanup.ts";

/** Collects the machines of a run, a boot or a fork; after Ctrl-C it returns when spored has cleaned up. */
export async function startedMachines(
  context: Context,
  node: NodeClient,
  title: string,
  events: AsyncIterable<node.RunEvent>,
  onForked: (forked: node.Forked) => void = () => {},
): Promise<node.Machine[]> {
  using progress = createProgress(context);
  progress.waiting(title);
  const showTransfer = createTransferSteps(progress, context.io.now);
  const machines: node.Machine[] = [];
  try {
    for await (const { event } of events) {
      if (event.case === "ready") machines.push(event.value);
      else if (event.case === "notice") progress.note(event.value);
      else if (event.case === "forked") onForked(event.value);
      else if (event.case === "transfer") showTransfer(event.value);
      else if (event.case === "step") progress.step(stepOf(event.value));
    }
  } catch (error) {
    progress.end();
    await cleanedUpMachines(context, node);
    throw error;
  }
  progress.end();
  if (machines.length === 0) {
    throw new SporeletError({
      code: "unavailable",
      operation: "start a machine",
      reason: "spored ended before it was ready",
    });
  }
  return machines;
}

/** The ports asked for; with `all`, also the snapshot's own, on free host ports. */
export async function portsOf(
  context: Context,
  node: NodeClient,
  snapshot: string,
  asked: readonly PortOption[],
  all: boolean,
): Promise<PortOption[]> {
  if (!all) return [...asked];
  const { ports } = await node.inspectSnapshot({ snapshot }, { signal: context.signal });
  const others = ports.filter(({ guest }) => !asked.some((mapping) => mapping.guest === guest));
  if (ports.length === 0) context.note(`${snapshot} names no ports: -P publishes none`);
  return [...asked, ...others.map(({ guest }) => ({ host: 0, guest }))];
}

export function printStarted(context: Context, machines: readonly node.Machine[]): void {
  if (context.json) context.printJson(machines.map(machineDocument));
  else if (context.quiet) context.print(...machines.map((machine) => machine.id));
  else context.print(...table(readyColumns, machines, context.style.bold));
}
