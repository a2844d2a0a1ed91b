import { randomUUID } from "node:crypto";
import path from "node:path";
import type { HandlerContext } from "@connectrpc/connect";
import { type node as api, firstContact, helloFrame } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { cloneFile } from "@sporelet/host";
import type { SnapshotConfig } from "@sporelet/store";
import { createAgentLink } from "./agent-link.ts";
import { refused, whyNotResumable } from "./gate.ts";
import { gateHost } from "./gate-host.ts";
import { identityHello } from "./identity.ts";
import { watchIdle } from "./idle.ts";
import { inTurn } from "./in-turn.ts";
import { environmentOf, watchEnd } from "./lifecycle.ts";
import { type LiveParts, type ManagedMachine, requireState } from "./machine.ts";
import { machineMessage } from "./messages.ts";
import type { Node } from "./node.ts";
import { completeOwnState, readOwnState, thinOwnState } from "./own-state.ts";
import { publishPorts } from "./ports.ts";
import { readAhead } from "./read-ahead.ts";
import type { MachineRecord } from "./record.ts";
import { arrivedAt } from "./server.ts";
import { answered, guestStages, keepEnvironment } from "./start.ts";
import { removeRunFiles } from "./suspend.ts";
import { together, unlessAborted } from "./together.ts";

const operation = "wake";
/** From its turn to ready, hooks of the guest included. */
const timeoutMs = 30_000;

/** Wake: one that runs is fine. */
export async function wake(
  node: Node,
  request: api.WakeRequest,
  context: HandlerContext,
): Promise<api.Machine> {
  const machine = node.machines.find(request.machine, operation);
  const { env } = request;
  await wakeMachine(node, machine, {
    ...{ env, arrivedAt: context.values.get(arrivedAt), signal: context.signal },
  });
  return machineMessage(machine.record);
}

/**
 * A machine for a call into it, which wakes it when it is suspended.
 * @throws SporeletError `failed_precondition` when it neither runs nor is suspended; what waking it throws
 */
export async function awake(
  node: Node,
  machine: ManagedMachine,
  calling: string,
  signal: AbortSignal,
): Promise<LiveParts> {
  if (machine.record.state === "suspended") await wakeMachine(node, machine, { signal });
  return requireState(machine, calling, ["running"]);
}

/** What is to be done about each connection to a machine's ports: it keeps the machine awake, or wakes it. */
export function connectionsOf(node: Node, machine: ManagedMachine): () => Disposable | undefined {
  return () => {
    const ports = machine.dormant?.ports ?? machine.live?.ports;
    if (machine.record.wakeOnConnect && (ports?.held ?? 0) > 0) wakeSoon(node, machine);
    return machine.idleness?.begin();
  };
}

/** Machines for which a wake by a connection is under way: all that come meanwhile wait for the same. */
const waking = new WeakSet<ManagedMachine>();

/** Also while it is only about to be suspended: this waits until it is. */
function wakeSoon(node: Node, machine: ManagedMachine): void {
  if (waking.has(machine)) return;
  waking.add(machine);
  void wakeMachine(node, machine, { signal: node.shutdown })
    .catch(() => machine.dormant?.ports.refuse()) // Its record and the log say why.
    .finally(() => waking.delete(machine));
}

interface WakeOptions {
  /** Added to the environment that it has. */
  env?: Record<string, string>;
  /** When that was asked for. Default: now. */
  arrivedAt?: number;
  signal: AbortSignal;
}

/**
 * Lets a suspended machine go on: the same machine, with a new generation id. Whatever fails, or is aborted, leaves
 * it suspended as it was, with the reason in its record. One that runs already is fine.
 *
 * @throws SporeletError `failed_precondition` for other states, and when its environment is lost; `incompatible`
 *   when this host cannot restore its state any more; `already_exists` when one of its ports was taken meanwhile
 */
async function wakeMachine(node: Node, machine: ManagedMachine, options: WakeOptions): Promise<void> {
  const begun = { arrivedAt: performance.now(), ...options };
  await machine.exclusive(async () => {
    if (machine.record.state === "running") return;
    if (machine.record.state !== "suspended") requireState(machine, operation, ["running"]);
    const called = AbortSignal.any([options.signal, node.shutdown]);
    try {
      await inTurn(node.starts, { signal: called, timeoutMs }, (signal) =>
        goOn(node, machine, { ...begun, signal }),
      );
    } catch (error) {
      const ours = SporeletError.from(error, { operation, subject: machine.name });
      node.log.error("machine not woken", ours, { machine: machine.name, id: machine.id });
      const still: Partial<MachineRecord> = {
        ...{ state: "suspended", process: undefined, network: { kind: "none" } },
      };
      await machine.update({ ...still, failure: `it did not wake: ${ours.reason}` }).catch(() => {});
      throw ours;
    }
  });
}

async function goOn(
  node: Node,
  machine: ManagedMachine,
  { env: given = {}, arrivedAt: arrived, signal }: WakeOptions & { arrivedAt: number },
): Promise<void> {
  const begunAt = performance.now();
  const { id, record } = machine;
  const { config, files } = await readOwnState(record);
  const [kept] = await together([
    environmentOf(node, id),
    requireHost(node, machine, config),
    removeRunFiles(record),
    completeOwnState(record, signal),
  ]);
  const env = { ...kept, ...given };
  requireEnvironment(machine, env);
  const identity = { ...record.identity, generationId: randomUUID() };

  await using undo = new AsyncDisposableStack();
  // Pages of its own file are in no other machine's memory: beside all that follows, until it is ready.
  const ready = new AbortController();
  undo.defer(() => ready.abort());
  void readAhead(files, ready.signal).catch(() => {});
  const disk = path.join(record.directory, "disk");
  const [network] = await together([
    node.networks.take(config.shape.network, record.ports, signal).then((taken) => {
      undo.defer(() => taken.release());
      return taken;
    }),
    // What it does to its disk is no part of its state before it is awake.
    files.disk && cloneFile(files.disk, disk, { signal }),
  ]);
  undo.defer(async () => void (await node.resources.ended(record)));
  await node.resources.enterDomain(id, record.ksm);
  const slot = await node.vmm.prepare(
    {
      ...{ id, directory: record.directory, runtimeDirectory: node.runtimeDirectory },
      ...{ shape: config.shape, memory: files.memory, vmstate: files.vmstate },
      kernelArguments: config.kernel.arguments,
      disks: files.disk === undefined ? [] : [{ path: disk }],
      ...(network.backend && { network: network.backend }),
      mergeMemory: record.ksm !== undefined,
    },
    signal,
  );
  undo.use(slot);
  node.resources.weigh(slot.pid, "resuming");
  await node.resources.limit(record, slot.pid);
  const slotAt = performance.now();
  await unlessAborted(slot.prepared, signal);
  const { hookTimeoutMs } = config;
  const hello = identityHello({ kind: "resume", identity, guest: network.guest, env, hookTimeoutMs });
  const {
    machine: vm,
    channel,
    loadedAt,
  } = await slot.resume({
    firstWords: helloFrame(hello),
    diskBytesPerSecond: record.limits?.ioBytesPerSecond,
    signal,
  });
  undo.defer(() => vm.stop());
  const reply = await answered(vm, machine, firstContact(channel, "sent", { signal }));
  const agentAt = performance.now();
  const waiting = machine.dormant;
  // Connections wait until its record says that it runs: what they say to it must not be lost with the next spored,
  // which would find it suspended. A VMM that makes the network itself has its ports open already.
  const held = network.record.kind === "user" ? network.record : undefined;
  const ports = waiting?.ports ?? (await publishPorts(record.ports, held, connectionsOf(node, machine)));
  if (waiting === undefined) undo.defer(() => ports.close());
  else {
    undo.defer(() => {
      ports.hold();
      ports.cut();
    });
  }
  if (Object.keys(given).length > 0) await keepEnvironment(node, id, env);
  signal.throwIfAborted();
  ready.abort();
  const timingsAt = (readyAt: number) => ({
    readyMs: readyAt - arrived,
    planMs: begunAt - arrived,
    slotMs: slotAt - begunAt,
    loadMs: loadedAt - slotAt,
    agentMs: agentAt - loadedAt,
    readyStageMs: readyAt - agentAt,
    fromPool: false,
    guest: guestStages(reply),
  });
  const timings = timingsAt(performance.now());
  const now = { process: vm.record, network: network.record, ports: ports.ports, identity, timings };
  await machine.update({
    ...now,
    ...{ state: "running", failure: undefined, lazy: undefined },
  });
  ports.point(network.record);
  const { generationId } = identity;
  const agent = createAgentLink({ machine: vm, name: machine.name, generationId, env, channel });
  machine.gone = new AbortController();
  machine.stopped = new AbortController();
  machine.ending = false;
  machine.live = { vm, agent, network, ports, alive: node.activity.begin() };
  machine.dormant = undefined;
  undo.move();
  waiting?.alive[Symbol.dispose]();
  watchEnd(node, machine);
  watchIdle(node, machine);
  node.resources.weigh(vm.pid, "running");
  // As with a resume: who waits has waited for the record too.
  const noted = timingsAt(performance.now());
  machine.note({ timings: noted });
  node.metrics.started("wake", noted);
  const { guest, ...stages } = noted;
  node.log.info("machine woken", {
    ...{ machine: machine.name, id, pid: vm.pid, ...stages },
    guest: JSON.stringify(guest),
  });
  await thinOwnState(machine.record).catch((error) => {
    node.log.error("files of a suspended machine not removed", error, { machine: machine.name });
  });
}

/** The host may have another VMM than when the machine was suspended. */
async function requireHost(node: Node, { name, record }: ManagedMachine, config: SnapshotConfig) {
  const known = await gateHost(node);
  if (whyNotResumable(config, known) === undefined) return;
  // Some things are only known when a guest has been tried.
  const { files: guest } = await node.store.resolve(record.snapshotDigest).catch(() => ({ files: {} }));
  const host = await gateHost(node, { accelerator: config.shape.accelerator, guest });
  const refusal = whyNotResumable(config, host);
  if (refusal !== undefined) throw refused(name, refusal, host);
}

/** Values of the environment are kept in memory: the host's reboot has taken them. */
function requireEnvironment({ name, record }: ManagedMachine, env: Record<string, string>): void {
  const lost = (record.variables ?? []).filter((variable) => !Object.hasOwn(env, variable));
  if (lost.length === 0) return;
  throw new SporeletError({
    code: "failed_precondition",
    operation,
    subject: name,
    reason: `its environment is lost since the host was booted again: ${lost.join(", ")}`,
    hint: `sporectl wake ${lost.map((variable) => `-e ${variable}=VALUE`).join(" ")} ${name}`,
  });
}
