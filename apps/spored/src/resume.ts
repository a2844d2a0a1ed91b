import { firstContact, helloFrame, type agent as messages } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { createAgentLink } from "./agent-link.ts";
import { identityHello } from "./identity.ts";
import { watchIdle } from "./idle.ts";
import { lazyPartsOf } from "./lazy/types.ts";
import { dropEnvironment, watchEnd } from "./lifecycle.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { publishPorts } from "./ports.ts";
import { type PreparedClone, prepareClone } from "./preparation.ts";
import type { TimingsRecord } from "./record.ts";
import { answered, keepEnvironment, type StartPlan } from "./start.ts";
import { together, unlessAborted } from "./together.ts";
import { connectionsOf } from "./wake.ts";

/**
 * Resumes one clone of a snapshot that passed the gate: takes the slot that `enlist` found for it, or else
 * prepares one, lets it run, and hands the machine over once its agent has said that it is unique and its ports
 * are open. Whatever fails, or is aborted, is undone before this returns.
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
  const { id, record } = machine;
  const begunAt = performance.now();
  await using undo = new AsyncDisposableStack();
  undo.defer(() => node.machines.delete(machine));
  try {
    const { slot, network, diskClone, fromPool } = await cloneFor(node, machine, plan, { undo, signal });
    await node.resources.limit(record, slot.pid);
    const slotAt = performance.now();
    // The first words hold the time: written now, they are read as soon as the guest runs.
    await unlessAborted(slot.prepared, signal);
    const { identity } = record;
    const { hookTimeoutMs } = snapshot.config;
    const hello = identityHello({ kind: "resume", identity, guest: network.guest, env, hookTimeoutMs });
    const {
      machine: vm,
      channel,
      loadedAt,
    } = await slot.resume({
      firstWords: helloFrame(hello),
      diskBytesPerSecond: plan.limits?.ioBytesPerSecond,
      signal,
    });
    undo.defer(() => vm.stop());
    const reply = await answered(vm, machine, firstContact(channel, "sent", { signal }));
    const agentAt = performance.now();
    const published = await publishPorts(ports, network.record, connectionsOf(node, machine));
    undo.defer(() => published.close());
    const readyAt = performance.now();
    const timings = {
      readyMs: readyAt - plan.arrivedAt,
      planMs: begunAt - plan.arrivedAt,
      slotMs: slotAt - begunAt,
      loadMs: loadedAt - slotAt,
      agentMs: agentAt - loadedAt,
      readyStageMs: readyAt - agentAt,
      fromPool,
      guest: guestStages(reply),
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
    watchIdle(node, machine);
    void node.resources.running(id);
    if (lazy) await node.lazy.started(machine);
    node.metrics.started("resume", timings);
    const { guest, ...stages } = timings;
    node.log.info("machine resumed", {
      machine: machine.name,
      id,
      snapshot: plan.reference,
      pid: vm.pid,
      ...stages,
      guest: JSON.stringify(guest),
    });
  } catch (error) {
    await node.resources.explain(record, "resume");
    const ours = SporeletError.from(error, { operation: "resume", subject: machine.name });
    throw signal.aborted && ours.code === "cancelled" ? ours : ((await lazy?.explain(ours)) ?? ours);
  }
}

/** The clone that lay ready for this machine, or one that is made now. @param undo gets what removes it */
async function cloneFor(
  node: Node,
  machine: ManagedMachine,
  { snapshot, env, ports, ksm }: StartPlan,
  { undo, signal }: { undo: AsyncDisposableStack; signal: AbortSignal },
): Promise<PreparedClone & { fromPool: boolean }> {
  const { id, prepared } = machine;
  if (prepared !== undefined) undo.use(prepared);
  undo.defer(() => dropEnvironment(node, id));
  signal.throwIfAborted();
  const [clone] = await together([
    prepared ?? prepareClone(node, { id, snapshot, ports, ksm, signal }).then((made) => undo.use(made)),
    keepEnvironment(node, id, env),
  ]);
  return { ...clone, fromPool: prepared !== undefined };
}

/** The guest's own account of its first contact. */
function guestStages(reply: messages.HelloReply): NonNullable<TimingsRecord["guest"]> {
  return {
    clockMs: reply.clockUs / 1000,
    entropyMs: reply.entropyUs / 1000,
    identityMs: reply.identityUs / 1000,
    networkMs: reply.networkUs / 1000,
    thawMs: reply.thawUs / 1000,
    hooksMs: reply.hooksUs / 1000,
  };
}
