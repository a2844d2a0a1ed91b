import { create } from "@bufbuild/protobuf";
import { node as api } from "@sporelet/api";
import { destroy } from "./lifecycle.ts";
import type { ManagedMachine } from "./machine.ts";
import { machineMessage } from "./messages.ts";
import type { Node } from "./node.ts";
import { enlist, type StartPlan } from "./start.ts";
import { asTheyCome } from "./together.ts";

/**
 * Starts machines side by side and tells of each that is ready; when one fails, or the caller goes away before
 * it was told of all, none of them stays.
 */
export async function* startAll(
  node: Node,
  plans: readonly StartPlan[],
  origin: "resume" | "boot",
  start: (machine: ManagedMachine, plan: StartPlan, signal: AbortSignal) => Promise<void>,
  outer: AbortSignal,
): AsyncGenerator<api.RunEvent> {
  const failed = new AbortController();
  const signal = AbortSignal.any([outer, failed.signal, node.shutdown]);
  // All names are taken before the first machine starts.
  const machines = plans.map((plan) => ({ plan, machine: enlist(node, plan, origin) }));
  const starts = machines.map(async ({ machine, plan }) => {
    try {
      await start(machine, plan, signal);
      return machine;
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  let toldAll = false;
  let noticed = false;
  try {
    for await (const machine of asTheyCome(starts)) {
      if (!noticed && machine.record.diskClone === "copy") {
        noticed = true;
        yield notice("the disk was copied: this file system has no reflinks (sporectl doctor)");
      }
      yield create(api.RunEventSchema, { event: { case: "ready", value: machineMessage(machine.record) } });
    }
    outer.throwIfAborted();
    toldAll = true;
  } finally {
    if (!toldAll) {
      failed.abort(new DOMException("the call ended", "AbortError"));
      const settled = await Promise.allSettled(starts);
      const ready = settled.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      await Promise.all(ready.map((machine) => machine.exclusive(() => destroy(node, machine))));
    }
  }
}

export function notice(text: string): api.RunEvent {
  return create(api.RunEventSchema, { event: { case: "notice", value: text } });
}
