import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { bootMachine } from "./boot.ts";
import { callTime } from "./call-time.ts";
import { requireCount } from "./count.ts";
import { checkDormancy, requireSeen } from "./dormancy.ts";
import { kernelOf, requireBootable } from "./gate.ts";
import { gateHost } from "./gate-host.ts";
import { shapeOn } from "./host-shape.ts";
import { checkDomain, checkLimits } from "./limits.ts";
import type { ManagedMachine } from "./machine.ts";
import { cloneNames } from "./names.ts";
import type { Node } from "./node.ts";
import { obtain, type Resumable } from "./obtain.ts";
import { checkPorts, portsOfClone } from "./ports.ts";
import { relay } from "./relay.ts";
import { resumeClone } from "./resume.ts";
import { originOf, type StartPlan } from "./start.ts";
import { notice, startAll } from "./start-all.ts";

/**
 * How many machines are started at the same time. Starting is bound by the CPU. Measured on two cores with
 * eight clones of Layer 0 (medians of three rounds, ready of the last one and of each): 1 at a time 1463 and
 * 785 ms, 2: 1154 and 506 ms, 4: 840 and 671 ms, 8: 977 and 810 ms.
 */
export const startsAtOnce = 4;

/** Run: resumes clones, all of them or none. */
export async function* run(
  node: Node,
  request: api.RunRequest,
  context: HandlerContext,
): AsyncGenerator<api.RunEvent> {
  const count = requireCount(request.count, "run", request.snapshot);
  const ports = checkPorts(request.ports, count);
  const limits = checkLimits(request.limits, "run", request.snapshot);
  node.resources.require(limits, "run", request.snapshot);
  const ksm = checkDomain(request.ksm, "run", request.snapshot);
  const dormancy = checkDormancy(request);
  const time = callTime(context.signal, request.timeoutMs);
  using obtained = yield* relay<api.RunEvent, Resumable>((onEvent, signal) =>
    obtain(node, request, {
      onEvent: (event) => onEvent(create(api.RunEventSchema, { event })),
      time,
      signal,
    }),
  );
  const { snapshot } = obtained;
  requireSeen(dormancy, snapshot, request.snapshot);
  const names = cloneNames(request.name, count, node.machines.hasName);
  const { env, remove } = request;
  const plans = names.map((name, index) => ({
    ...{ snapshot, reference: request.snapshot, name, env, remove, limits, ksm, dormancy },
    ports: portsOfClone(ports, index),
    ...originOf(context),
  }));
  const starter = (machine: ManagedMachine, plan: StartPlan, signal: AbortSignal) =>
    node.starts(() => resumeClone(node, machine, plan, signal));
  yield* startAll(node, plans, "resume", starter, time.atMost(30_000));
}

/** Boot: the same machine, cold. */
export async function* boot(
  node: Node,
  request: api.BootRequest,
  context: HandlerContext,
): AsyncGenerator<api.RunEvent> {
  const ports = checkPorts(request.ports, 1);
  const { snapshot, lease } = await node.store.acquire(request.snapshot, "boot");
  using _lease = lease; // Then the machine's record keeps it.
  const { config, files } = snapshot;
  const [host] = await Promise.all([
    gateHost(node, { accelerator: config.shape.accelerator, guest: files }),
    node.store.check(snapshot),
  ]);
  kernelOf(request.snapshot, snapshot);
  requireBootable(request.snapshot, config, host);
  const shape = shapeOn(config.shape, host, node.networks.preferred);
  if (shape.accelerator !== config.shape.accelerator) {
    yield notice(`this host has no ${config.shape.accelerator}: it is booted with ${shape.accelerator}`);
  }
  const [name = ""] = cloneNames(request.name, 1, node.machines.hasName);
  const { env, remove } = request;
  const timeoutMs = request.timeoutMs || 300_000;
  const plan = {
    snapshot: { ...snapshot, config: { ...config, shape } },
    reference: request.snapshot,
    name,
    ports,
    env,
    remove,
    ...originOf(context),
  };
  const starter = (machine: ManagedMachine, each: StartPlan, signal: AbortSignal) =>
    bootMachine(node, machine, each, { signal, timeoutMs });
  yield* startAll(
    node,
    [plan],
    "boot",
    starter,
    AbortSignal.any([context.signal, AbortSignal.timeout(timeoutMs)]),
  );
}
