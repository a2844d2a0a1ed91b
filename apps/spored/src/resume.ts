import { firstContact, helloFrame } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { createAgentLink } from "./agent-link.ts";
import { identityHello } from "./identity.ts";
import { exactPagesLauncher } from "./lazy/launch.ts";
import { lazyPartsOf } from "./lazy/types.ts";
import { watchEnd } from "./lifecycle.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { publishPorts } from "./ports.ts";
import { prepareMachine } from "./preparation.ts";
import { answered, type StartPlan } from "./start.ts";

/**
 * Resumes one clone of a snapshot that passed the gate: takes a network and clones the disk side by side,
 * starts the VMM, loads the state, and hands the machine over once its agent has said that it is unique and
 * its ports are open. Whatever fails, or is aborted, is undone before this returns.
 *
 * @param machine as made by `enlist`
 */
export async function resumeClone(
  node: Node,
  machine: ManagedMachine,
  plan: StartPlan,
  signal: AbortSignal,
): Promise<void> {
  const { snapshot, env, ports } = plan;
  const lazy = lazyPartsOf(snapshot);
  const { config, files } = snapshot;
  const { id, record } = machine;
  const { directory, runtimeDirectory } = record;
  await using undo = new AsyncDisposableStack();
  try {
    const { network, disks, diskClone } = await prepareMachine(node, machine, plan, { undo, signal });
    const slot = await node.vmm.prepare(
      {
        id,
        directory,
        runtimeDirectory,
        shape: config.shape,
        memory: files.memory,
        vmstate: files.vmstate,
        ...(files.kernel && { kernel: files.kernel }),
        ...(files.initramfs && { initramfs: files.initramfs }),
        kernelArguments: config.kernel.arguments,
        disks,
        ...(lazy && { launcher: exactPagesLauncher() }),
        ...(network.backend && { network: network.backend }),
      },
      signal,
    );
    undo.use(slot); // Once it was resumed it owns nothing any more.
    const slotAt = performance.now();
    const { identity } = record;
    const { hookTimeoutMs } = config;
    const hello = identityHello({ kind: "resume", identity, guest: network.guest, env, hookTimeoutMs });
    const { machine: vm, channel, loadedAt } = await slot.resume({ firstWords: helloFrame(hello), signal });
    undo.defer(() => vm.stop());
    const reply = await answered(vm, machine, firstContact(channel, "sent", { signal }));
    const agentAt = performance.now();
    const published = await publishPorts(ports, network.record);
    undo.defer(() => published.close());
    const readyAt = performance.now();
    const timings = {
      readyMs: readyAt - plan.arrivedAt,
      slotMs: slotAt - plan.arrivedAt,
      loadMs: loadedAt - slotAt,
      agentMs: agentAt - loadedAt,
      readyStageMs: readyAt - agentAt,
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
    const agent = createAgentLink({
      machine: vm,
      name: machine.name,
      generationId: identity.generationId,
      env,
      channel,
    });
    machine.live = { vm, agent, network, ports: published, alive: node.activity.begin() };
    undo.move();
    watchEnd(node, machine);
    if (lazy) await node.lazy.started(machine);
    node.log.info("machine resumed", {
      machine: machine.name,
      id,
      snapshot: plan.reference,
      pid: vm.pid,
      ...timings,
      // The guest's own account of its first contact: clock, entropy, identity, network, hooks.
      guestUs: [reply.clockUs, reply.entropyUs, reply.identityUs, reply.networkUs, reply.hooksUs].join(" "),
    });
  } catch (error) {
    const ours = SporeletError.from(error, { operation: "resume", subject: machine.name });
    throw signal.aborted && ours.code === "cancelled" ? ours : ((await lazy?.explain(ours)) ?? ours);
  }
}
