import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { agentProtocol, node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { StoredSnapshot } from "@sporelet/store";
import { bootMachine } from "./boot.ts";
import { requireResumable } from "./gate.ts";
import { destroy } from "./lifecycle.ts";
import type { ManagedMachine } from "./machine.ts";
import { machineMessage } from "./messages.ts";
import { cloneNames } from "./names.ts";
import type { Node } from "./node.ts";
import { checkPorts, portsOfClone } from "./ports.ts";
import { resumeClone } from "./resume.ts";
import { arrivedAt } from "./server.ts";
import { enlist, type StartPlan } from "./start.ts";
import { asTheyCome } from "./together.ts";

/**
 * How many machines are started at the same time. Starting is bound by the CPU. Measured on two cores with
 * eight clones of Layer 0 (medians of three rounds, ready of the last one and of each): 1 at a time 1463 and
 * 785 ms, 2: 1154 and 506 ms, 4: 840 and 671 ms, 8: 977 and 810 ms.
 */
export const startsAtOnce = 4;

const maximumCount = 1000;

/** Run: resumes clones, all of them or none. */
export async function* run(
  node: Node,
  request: api.RunRequest,
  context: HandlerContext,
): AsyncGenerator<api.RunEvent> {
  const count = request.count || 1;
  if (count > maximumCount) {
    throw new SporeletError({
      code: "invalid_argument",
      operation: "run",
      subject: request.snapshot,
      reason: `at most ${maximumCount} clones can be asked for at once`,
    });
  }
  const ports = checkPorts(request.ports, count);
  const snapshot = await resumable(node, request.snapshot);
  const names = cloneNames(request.name, count, node.machines.hasName);
  const { env, remove, timeoutMs } = request;
  const plans = names.map((name, index) => ({
    ...{ snapshot, reference: request.snapshot, name, env, remove },
    ports: portsOfClone(ports, index),
    arrivedAt: context.values.get(arrivedAt),
  }));
  const starter = (machine: ManagedMachine, plan: StartPlan, signal: AbortSignal) =>
    node.starts(() => resumeClone(node, machine, plan, signal));
  yield* startAll(node, plans, "resume", starter, deadline(context.signal, timeoutMs || 30_000));
}

/** Boot: the same machine, cold. */
export async function* boot(
  node: Node,
  request: api.BootRequest,
  context: HandlerContext,
): AsyncGenerator<api.RunEvent> {
  const ports = checkPorts(request.ports, 1);
  const snapshot = await node.store.resolve(request.snapshot);
  await node.store.check(snapshot);
  const [name = ""] = cloneNames(request.name, 1, node.machines.hasName);
  const { env, remove } = request;
  const timeoutMs = request.timeoutMs || 300_000;
  const plan = {
    snapshot,
    reference: request.snapshot,
    name,
    ports,
    env,
    remove,
    arrivedAt: context.values.get(arrivedAt),
  };
  const starter = (machine: ManagedMachine, each: StartPlan, signal: AbortSignal) =>
    bootMachine(node, machine, each, { signal, timeoutMs });
  yield* startAll(node, [plan], "boot", starter, deadline(context.signal, timeoutMs));
}

async function resumable(node: Node, reference: string): Promise<StoredSnapshot> {
  const snapshot = await node.store.resolve(reference);
  const { config, files } = snapshot;
  const [probe] = await Promise.all([
    node.probes.get({ accelerator: config.shape.accelerator, guest: files }),
    node.store.check(snapshot),
  ]);
  requireResumable(reference, config, { probe, agentProtocol, networks: node.networks.kinds });
  return snapshot;
}

/** Starts machines side by side and tells of each that is ready; when one fails none of them stays. */
async function* startAll(
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
  let all = false;
  void Promise.all(starts).then(
    () => {
      all = true;
    },
    () => {},
  );
  let told = false;
  try {
    for await (const machine of asTheyCome(starts)) {
      if (!told && machine.record.diskClone === "copy") {
        told = true;
        yield notice("the disk was copied: this file system has no reflinks (sporectl doctor)");
      }
      yield create(api.RunEventSchema, { event: { case: "ready", value: machineMessage(machine.record) } });
    }
  } finally {
    if (!all) {
      failed.abort(new DOMException("the call ended", "AbortError"));
      const settled = await Promise.allSettled(starts);
      const ready = settled.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      await Promise.all(ready.map((machine) => machine.exclusive(() => destroy(node, machine))));
    }
  }
}

function notice(text: string): api.RunEvent {
  return create(api.RunEventSchema, { event: { case: "notice", value: text } });
}

function deadline(signal: AbortSignal, timeoutMs: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
}
