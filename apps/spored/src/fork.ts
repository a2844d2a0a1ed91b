import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import type { Lease, StoredSnapshot } from "@sporelet/store";
import { callTime } from "./call-time.ts";
import { requireCount } from "./count.ts";
import { freezeMachine } from "./freeze.ts";
import { type ManagedMachine, requireState } from "./machine.ts";
import { cloneNames } from "./names.ts";
import type { Node } from "./node.ts";
import { checkPorts, portsOfClone, requireFreePorts } from "./ports.ts";
import { resumeClone } from "./resume.ts";
import { removeUnnamed } from "./snapshots.ts";
import { originOf, type StartPlan } from "./start.ts";
import { startAll } from "./start-all.ts";

const operation = "fork";
/** For the freeze, hooks of the guest included, and for the children each. */
const freezeTimeoutMs = 120_000;
const startTimeoutMs = 30_000;

/**
 * Fork: freezes a running machine, lets it go on, and resumes children from that instant, all of them or none.
 * What they start from is an ordinary snapshot without a name: it stays as long as a machine needs it.
 */
export async function* fork(
  node: Node,
  request: api.ForkRequest,
  context: HandlerContext,
): AsyncGenerator<api.RunEvent> {
  const machine = node.machines.find(request.machine, operation);
  const count = requireCount(request.count, operation, machine.name);
  // All that can be found wrong is found before the parent is touched.
  requireState(machine, operation, ["running"]);
  const ports = checkPorts(request.ports, count);
  cloneNames(request.name, count, node.machines.hasName);
  await requireFreePorts(ports, count);

  const time = callTime(context.signal, request.timeoutMs);
  const signal = AbortSignal.any([time.atMost(freezeTimeoutMs), node.shutdown]);
  const { snapshot, pauseMs, lease } = await freezeMachine(node, machine, { operation, signal });
  await using _kept = keepWhileStarting(node, snapshot, lease);
  const { digest } = snapshot;
  yield create(api.RunEventSchema, { event: { case: "forked", value: { digest, pauseMs } } });
  const plans = plansOf(node, request, { snapshot, count, ports, ...originOf(context) });
  const starter = (child: ManagedMachine, plan: StartPlan, each: AbortSignal) =>
    node.starts(() => resumeClone(node, child, plan, each));
  yield* startAll(node, plans, "resume", starter, time.atMost(startTimeoutMs));
}

function plansOf(
  node: Node,
  { name, env, remove }: api.ForkRequest,
  all: Pick<StartPlan, "snapshot" | "ports" | "arrivedAt" | "connection"> & { count: number },
): StartPlan[] {
  const { snapshot, count, ports, ...origin } = all;
  const reference = snapshot.digest.slice("sha256:".length).slice(0, 12);
  return cloneNames(name, count, node.machines.hasName).map((child, index) => ({
    ...{ snapshot, reference, name: child, env, remove, ...origin },
    ports: portsOfClone(ports, index),
  }));
}

/** Until the children hold it themselves; when there are none in the end, and nobody gave it a name, it goes. */
function keepWhileStarting(node: Node, { digest }: StoredSnapshot, lease: Lease): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      lease[Symbol.dispose]();
      await removeUnnamed(node, digest);
    },
  };
}
