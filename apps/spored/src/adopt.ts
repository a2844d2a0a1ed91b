import { readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import { createAgentLink } from "./agent-link.ts";
import { keepAside } from "./aside.ts";
import { watchIdle } from "./idle.ts";
import { environmentOf, environmentPath, watchEnd } from "./lifecycle.ts";
import { createMachine, type ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { holdsOwnState, removeOtherStates } from "./own-state.ts";
import { publishPorts } from "./ports.ts";
import { type MachineRecord, readRecord } from "./record.ts";
import { connectionsOf } from "./wake.ts";

/**
 * Takes over what an earlier spored left: machines that run go on and are reached again, those that ended
 * meanwhile say so, and what was only half-made is cleared away with its processes and networks. What somebody was
 * given once, and what may be all that is left of a suspended machine, is never removed, readable or not.
 */
export async function adoptAll(node: Node): Promise<void> {
  await node.lazy.adopt();
  const ids = await node.store.machines.list();
  const found = await Promise.all(ids.map((id) => findMachine(node, id)));
  const whole = found.flatMap(({ record }) => (record === undefined ? [] : [record]));
  await Promise.all(whole.map((record) => adopt(node, record)));
  const kept = new Set([...node.machines].flatMap(({ id, live }) => (live === undefined ? [] : [id])));
  await endStrays(node, kept);
  for (const { id, record, problem } of found) {
    if (record !== undefined) continue;
    if (problem !== undefined) await keepAside(node, id, problem);
    else {
      node.log.warn("half-made machine removed", { id });
      await node.store.machines.remove(id);
    }
  }
  const suspended = [...node.machines].filter(({ record }) => record.state === "suspended");
  await sweepRuntimeDirectory(node, kept, new Set(suspended.map(({ id }) => id)));
  await node.networks.sweep(
    [...node.machines].flatMap(({ live }) => (live === undefined ? [] : [live.network.record])),
  );
  await node.resources.adopt([...node.machines].flatMap(({ live, record }) => (live ? [record] : [])));
  await node.lazy.sweep();
  await node.store.sweep();
  // Last: a connection wakes them, and what is woken would be swept.
  await Promise.all(suspended.map((machine) => listenFor(node, machine)));
}

interface FoundMachine {
  id: string;
  /** Of one that can be taken over. */
  record?: MachineRecord;
  /** Why it cannot be taken over, though it is more than half-made. */
  problem?: unknown;
}

async function findMachine(node: Node, id: string): Promise<FoundMachine> {
  const directory = node.store.machines.path(id);
  try {
    const record = await readRecord(directory);
    if (record !== undefined && record.state !== "starting") return { id, record };
    if (!(await holdsOwnState(directory))) return { id };
    return { id, problem: new Error("it holds the state of a suspended machine, and no record says which") };
  } catch (problem) {
    return { id, problem };
  }
}

/** The ports of a suspended machine that connections wake. One that cannot be opened is told in its record. */
async function listenFor(node: Node, machine: ManagedMachine): Promise<void> {
  const { name, ports, wakeOnConnect } = machine.record;
  if (!wakeOnConnect || ports.length === 0) return;
  try {
    const published = await publishPorts(ports, undefined, connectionsOf(node, machine));
    machine.dormant = { ports: published, alive: node.activity.begin() };
  } catch (error) {
    node.log.error("ports not published again", error, { machine: name });
    const { reason } = SporeletError.from(error, { operation: "publish the ports of", subject: name });
    await machine.update({ failure: `connections do not wake it: ${reason}` });
  }
}

async function adopt(node: Node, record: MachineRecord): Promise<void> {
  const machine = createMachine(record);
  node.machines.add(machine);
  await removeOtherStates(record);
  if (record.state !== "running" && record.state !== "paused") return;
  try {
    const vm = record.process && (await node.vmm.attach(record.process));
    if (vm === undefined) {
      const failure = (await node.resources.ended(record)) ?? (await node.lazy.failureOf(record));
      if (failure) await lost(node, machine, "failed", failure);
      else await lost(node, machine, "stopped", "it ended while no spored ran");
      return;
    }
    // The last spored may have ended in the middle of a freeze, while the guest stood still for it, or between
    // a pause and its record.
    await (record.state === "running" ? vm.unpause() : vm.pause());
    const network = await node.networks.adopt(record.network);
    const onConnection = connectionsOf(node, machine);
    const ports = await publishPorts(record.ports, network.record, onConnection).catch((error) => {
      // The machine is worth more than its ports.
      node.log.error("ports not published again", error, { machine: record.name });
      return publishPorts([], network.record);
    });
    const env = await environmentOf(node, record.id);
    const agent = createAgentLink({
      machine: vm,
      name: record.name,
      generationId: record.identity.generationId,
      env,
    });
    machine.live = { vm, agent, network, ports, alive: node.activity.begin() };
    watchEnd(node, machine);
    watchIdle(node, machine);
    if (ports.ports.length !== record.ports.length) await machine.update({ ports: ports.ports });
    // Its clock, and whether its agent is there, in the background: the next call meets the same error.
    if (record.state === "running") agent.refresh();
    node.log.info("machine taken over", { machine: record.name, id: record.id, pid: vm.pid });
  } catch (error) {
    node.log.error("machine not taken over", error, { machine: record.name, id: record.id });
    const { reason } = SporeletError.from(error, { operation: "take over", subject: record.name });
    await lost(node, machine, "failed", `it could not be taken over: ${reason}`);
  }
}

/** A machine without a process: only its directory is left. */
async function lost(
  node: Node,
  machine: ManagedMachine,
  state: "stopped" | "failed",
  failure: string,
): Promise<void> {
  if (machine.record.remove) {
    await node.store.machines.remove(machine.id);
    node.machines.delete(machine);
    return;
  }
  await machine.update({ state, failure, process: undefined, ports: [], network: { kind: "none" } });
}

/**
 * Ends processes that work in a machine's directory and that no record led to: their spored ended between
 * starting them and writing down that they run, or while something was built in them. A VMM has the paths of its
 * machine on its command line.
 */
async function endStrays(node: Node, kept: ReadonlySet<string>): Promise<void> {
  const machines = `${path.dirname(node.store.machines.path("0"))}/`;
  const builds = `${path.join(node.store.root, "tmp")}/`;
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
    if (!/^\/?[^\0]*(qemu|nsenter|firecracker|cloud-hypervisor)/.test(command)) continue;
    const id = idAfter(machines, command) ?? idAfter(builds, command);
    if (id === undefined || kept.has(id)) continue;
    node.log.warn("stray process ended", { pid: Number(pid), id });
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

/** The name that follows a directory in a command line. */
function idAfter(directory: string, command: string): string | undefined {
  const at = command.indexOf(directory);
  return at < 0 ? undefined : /^[0-9a-f-]+/.exec(command.slice(at + directory.length))?.[0];
}

/**
 * Sockets and environments of machines that are no more, those in which something was built included. Suspended
 * machines have an environment and no sockets.
 */
async function sweepRuntimeDirectory(
  node: Node,
  kept: ReadonlySet<string>,
  suspended: ReadonlySet<string>,
): Promise<void> {
  for (const name of await readdir(node.runtimeDirectory)) {
    const [id = ""] = name.split(".");
    if (!/^([0-9a-f]{12}|build-[0-9a-f]{8})$/.test(id) || kept.has(id)) continue;
    if (suspended.has(id) && name === path.basename(environmentPath(node, id))) continue;
    await rm(path.join(node.runtimeDirectory, name), { recursive: true, force: true });
  }
}
