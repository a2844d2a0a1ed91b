import type { Duplex } from "node:stream";
import { setTimeout as after } from "node:timers/promises";
import { firstContact, helloFrame, type agent as messages } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Slot, Machine as VmmMachine } from "@sporelet/vmm";
import { createAgentLink } from "./agent-link.ts";
import { identityHello } from "./identity.ts";
import { watchIdle } from "./idle.ts";
import { lazyPartsOf } from "./lazy/types.ts";
import { dropEnvironment, watchEnd } from "./lifecycle.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { publishPorts } from "./ports.ts";
import { type PreparedClone, prepareClone } from "./preparation.ts";
import { answered, guestStages, keepEnvironment, type StartPlan } from "./start.ts";
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
    const met = await meetClone(node, machine, plan, { undo, signal });
    const { clone, fromPool, vm, channel, reply, slotAt, loadedAt, agentAt } = met;
    const { network, diskClone } = clone;
    const published = await publishPorts(ports, network.record, connectionsOf(node, machine));
    undo.defer(() => published.close());
    const timingsAt = (readyAt: number) => ({
      readyMs: readyAt - plan.arrivedAt,
      planMs: begunAt - plan.arrivedAt,
      slotMs: slotAt - begunAt,
      loadMs: loadedAt - slotAt,
      agentMs: agentAt - loadedAt,
      readyStageMs: readyAt - agentAt,
      fromPool,
      guest: guestStages(reply),
    });
    await machine.update({
      state: "running",
      process: vm.record,
      network: network.record,
      ports: published.ports,
      timings: timingsAt(performance.now()),
      ...(diskClone && { diskClone }),
    });
    signal.throwIfAborted();
    const agent = createAgentLink({
      machine: vm,
      name: machine.name,
      generationId: record.identity.generationId,
      env,
      channel,
    });
    machine.live = { vm, agent, network, ports: published, alive: node.activity.begin() };
    undo.move();
    watchEnd(node, machine);
    watchIdle(node, machine);
    node.resources.weigh(vm.pid, "running");
    if (lazy) await node.lazy.started(machine);
    // The caller has waited for the record too, which cannot hold how long it took to write.
    const timings = timingsAt(performance.now());
    machine.note({ timings });
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

/** A clone whose guest has answered that it is unique, and when it got how far. */
interface MetClone {
  clone: PreparedClone;
  fromPool: boolean;
  vm: VmmMachine;
  channel: Duplex;
  reply: messages.HelloReply;
  slotAt: number;
  loadedAt: number;
  agentAt: number;
}

/** @param undo gets what takes all of it back */
interface Attempt {
  undo: AsyncDisposableStack;
  signal: AbortSignal;
}

/**
 * Lets the clone run that lay ready for this machine, or one that is made now. The VMM of one that lay ready may have
 * ended a moment ago, or end now: then one that is made now takes its place, once. Nobody has seen the first.
 */
async function meetClone(
  node: Node,
  machine: ManagedMachine,
  plan: StartPlan,
  { undo, signal }: Attempt,
): Promise<MetClone> {
  const { id, prepared, record } = machine;
  const { snapshot, env, ports, ksm } = plan;
  if (prepared !== undefined) {
    undo.use(prepared);
    node.resources.weigh(prepared.slot.pid, "resuming");
  }
  undo.defer(() => dropEnvironment(node, id));
  signal.throwIfAborted();
  const make = async () => {
    return undo.use(await prepareClone(node, { id, snapshot, ports, ksm, weight: "resuming", signal }));
  };
  const [first] = await together([prepared ?? make(), keepEnvironment(node, id, env)]);
  const attempt = undo.use(new AsyncDisposableStack());
  try {
    const met = await meet(node, machine, plan, first, { undo: attempt, signal });
    return { ...met, fromPool: first === prepared };
  } catch (error) {
    if (first !== prepared || signal.aborted || !(await endedByItself(first.slot, error))) throw error;
    await node.resources.explain(record, "resume");
    node.log.warn("slot lost as it was taken", { id, machine: machine.name, error: String(error) });
  }
  // All that it had, before what has the same id is made.
  await attempt.disposeAsync();
  await first[Symbol.asyncDispose]();
  const second = await make();
  return { ...(await meet(node, machine, plan, second, { undo, signal })), fromPool: false };
}

/** Lets a clone's guest run, until it has answered. */
async function meet(
  node: Node,
  machine: ManagedMachine,
  { snapshot, env, limits }: StartPlan,
  clone: PreparedClone,
  { undo, signal }: Attempt,
): Promise<Omit<MetClone, "fromPool">> {
  const { slot, network } = clone;
  const { record } = machine;
  await node.resources.limit(record, slot.pid);
  const slotAt = performance.now();
  // The first words hold the time: written now, they are read as soon as the guest runs.
  await unlessAborted(slot.prepared, signal);
  const { identity } = record;
  const { hookTimeoutMs } = snapshot.config;
  const hello = identityHello({ kind: "resume", identity, guest: network.guest, env, hookTimeoutMs });
  const resumed = await slot.resume({
    firstWords: helloFrame(hello),
    diskBytesPerSecond: limits?.ioBytesPerSecond,
    signal,
  });
  const { machine: vm, channel, loadedAt } = resumed;
  undo.defer(() => vm.stop());
  const reply = await answered(vm, machine, firstContact(channel, "sent", { signal }));
  return { clone, vm, channel, reply, slotAt, loadedAt, agentAt: performance.now() };
}

/** How much sooner the connections to a VMM may break than its end is known. */
const endKnownMs = 1000;

/** Whether its VMM ended before its guest could answer. Asked before the attempt is undone, which ends it in any case. */
async function endedByItself(slot: Slot, error: unknown): Promise<boolean> {
  const { code } = SporeletError.from(error, { operation: "resume" });
  if (code === "deadline_exceeded" || code === "cancelled") return false;
  const toldByGuest = code === "guest_failed" || code === "incompatible";
  const soon = after(toldByGuest ? 0 : endKnownMs, false, { ref: false });
  return await Promise.race([slot.ended.then(() => true), soon]);
}
