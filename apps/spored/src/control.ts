import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { destroy, retire, watchEnd } from "./lifecycle.ts";
import { type ManagedMachine, requireState } from "./machine.ts";
import { machineMessage } from "./messages.ts";
import type { Node } from "./node.ts";
import { unlessAborted } from "./together.ts";

/** Pause: the guest stands still; calls into it wait. */
export async function pause(node: Node, reference: string): Promise<api.Machine> {
  const machine = node.machines.find(reference, "pause");
  await machine.exclusive(async () => {
    const { vm } = requireState(machine, "pause", ["running"]);
    await vm.pause();
    await machine.update({ state: "paused" });
  });
  return machineMessage(machine.record);
}

/** Unpause: the guest goes on, and its clock is set. */
export async function unpause(node: Node, reference: string): Promise<api.Machine> {
  const machine = node.machines.find(reference, "unpause");
  await machine.exclusive(async () => {
    const { vm, agent } = requireState(machine, "unpause", ["paused"]);
    await vm.unpause();
    agent.refresh();
    await machine.update({ state: "running" });
  });
  return machineMessage(machine.record);
}

/** Stop: an orderly end within the time given, then the end of the VMM. Stopping what has stopped is fine. */
export async function stop(node: Node, request: api.StopRequest, signal: AbortSignal): Promise<api.Machine> {
  const machine = node.machines.find(request.machine, "stop");
  await machine.exclusive(async () => {
    // The state of one that is suspended goes with it.
    if (machine.live === undefined && machine.record.state !== "suspended") return;
    if (request.timeoutMs > 0 && machine.record.state === "running") {
      await orderlyEnd(node, machine, request.timeoutMs, signal);
    }
    await retire(node, machine, { state: "stopped" });
  });
  return machineMessage(machine.record);
}

/** Asks the guest to power off and waits until it has; not longer than `timeoutMs`, and without failing. */
async function orderlyEnd(
  node: Node,
  machine: ManagedMachine,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { live } = machine;
  if (live === undefined) return;
  // Its end is no news: who stops it is waiting for it.
  machine.ending = true;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  try {
    using lease = await live.agent.lease(limit);
    const request = { timeoutMs: Math.max(1, Math.floor(timeoutMs * 0.8)) };
    await lease.client.shutdown(request, { signal: limit });
    await unlessAborted(live.vm.ended, limit);
  } catch (error) {
    if (signal.aborted) {
      // Nobody waits for it any more: should it end all the same, that is news again.
      machine.ending = false;
      watchEnd(node, machine);
      throw error;
    }
    // Too slow, or its agent does not answer: the VMM is ended.
  }
}

/** RemoveMachine: with `force` a running one too. */
export async function remove(node: Node, request: api.RemoveMachineRequest): Promise<void> {
  const machine = node.machines.find(request.machine, "remove");
  await machine.exclusive(async () => {
    const { state } = machine.record;
    const alive = machine.live !== undefined || state === "suspended";
    if (state === "starting" || (alive && !request.force)) {
      throw new SporeletError({
        code: "failed_precondition",
        operation: "remove",
        subject: machine.name,
        reason: `it is ${state}`,
        hint: state === "starting" ? undefined : `sporectl rm -f ${machine.name} stops it first`,
      });
    }
    await destroy(node, machine);
  });
}
