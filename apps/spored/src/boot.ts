import path from "node:path";
import { firstContact } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { createAgentLink } from "./agent-link.ts";
import { kernelOf } from "./gate.ts";
import { identityHello } from "./identity.ts";
import { dropEnvironment, watchEnd } from "./lifecycle.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { publishPorts } from "./ports.ts";
import { makeParts } from "./preparation.ts";
import { answered, keepEnvironment, type StartPlan } from "./start.ts";
import { together } from "./together.ts";

/** A guest clock that is off by more than this is set again, milliseconds. */
const clockToleranceMs = 100;

/**
 * Starts the machine of a snapshot cold: its kernel, a clone of its disk and fresh memory. Handed over once
 * its agent has answered. Whatever fails, or is aborted, is undone before this returns.
 *
 * @param machine as made by `enlist`
 */
export async function bootMachine(
  node: Node,
  machine: ManagedMachine,
  plan: StartPlan,
  options: { signal: AbortSignal; timeoutMs: number },
): Promise<void> {
  const { signal } = options;
  const { snapshot, env, ports } = plan;
  const { config } = snapshot;
  const { id, record } = machine;
  const { directory, runtimeDirectory } = record;
  const begunAt = performance.now();
  await using undo = new AsyncDisposableStack();
  try {
    undo.defer(() => node.machines.delete(machine));
    undo.defer(() => dropEnvironment(node, id));
    const [{ network, disks, diskClone }] = await together([
      makeParts(node, { id, snapshot, ports, signal }, undo),
      keepEnvironment(node, id, env),
    ]);
    const vm = await node.vmm.boot(
      {
        id,
        directory,
        runtimeDirectory,
        shape: config.shape,
        ...kernelOf(plan.reference, snapshot),
        kernelArguments: config.kernel.arguments,
        memory: path.join(directory, "memory"),
        disks,
        ...(network.backend && { network: network.backend }),
      },
      signal,
    );
    undo.defer(() => vm.stop());
    const startedAt = performance.now();
    const channel = await vm.openChannel(signal);
    const { identity } = record;
    const hello = identityHello({ kind: "boot", identity, guest: network.guest, env });
    const contact = firstContact(channel, hello, { signal, timeoutMs: options.timeoutMs });
    const reply = await answered(vm, machine, contact);
    const offMs = Math.abs(Number(reply.wallClockNs / 1_000_000n) - Date.now());
    const agent = createAgentLink({
      machine: vm,
      name: machine.name,
      generationId: identity.generationId,
      env,
      channel,
    });
    undo.defer(() => agent.close());
    if (offMs > clockToleranceMs) {
      // The Hello waited for the guest while it booted, and then set the clock to the time of its writing.
      agent.refresh();
      (await agent.lease(signal))[Symbol.dispose]();
    }
    const agentAt = performance.now();
    const published = await publishPorts(ports, network.record);
    undo.defer(() => published.close());
    const readyAt = performance.now();
    const timings = {
      readyMs: readyAt - plan.arrivedAt,
      planMs: begunAt - plan.arrivedAt,
      slotMs: startedAt - begunAt,
      loadMs: 0,
      agentMs: agentAt - startedAt,
      readyStageMs: readyAt - agentAt,
      fromPool: false,
    };
    await machine.update({
      state: "running",
      process: vm.record,
      network: network.record,
      ports: published.ports,
      timings,
      ...(diskClone && { diskClone }),
    });
    signal.throwIfAborted();
    machine.live = { vm, agent, network, ports: published, alive: node.activity.begin() };
    undo.move();
    watchEnd(node, machine);
    node.resources.weigh(vm.pid, "running");
    node.metrics.started("boot", timings);
    node.log.info("machine booted", { machine: machine.name, id, snapshot: plan.reference, pid: vm.pid });
  } catch (error) {
    throw SporeletError.from(error, { operation: "boot", subject: machine.name });
  }
}
