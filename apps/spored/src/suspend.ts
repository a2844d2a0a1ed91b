import { link, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { node as api } from "@sporelet/api";
import { syncPath } from "@sporelet/host";
import type { SnapshotConfig } from "@sporelet/store";
import { type MemoryCapture, prepareCapture } from "@sporelet/vmm";
import { arrived, baseOf, parentOf, quiesce, stoppedOr, writerOf } from "./freeze.ts";
import { shapeOfMachine } from "./host-shape.ts";
import { environmentOf, release } from "./lifecycle.ts";
import { type LiveParts, type ManagedMachine, requireState } from "./machine.ts";
import { machineMessage } from "./messages.ts";
import type { Node } from "./node.ts";
import {
  makeOwnState,
  ownConfig,
  ownStatePath,
  readOwnState,
  removeOtherStates,
  settleOwnState,
} from "./own-state.ts";
import { readAhead } from "./read-ahead.ts";
import { requireRoomFor } from "./room.ts";
import { createGate, together } from "./together.ts";

const operation = "suspend";

/** Suspend: one that is suspended already is fine. */
export async function suspend(node: Node, reference: string, caller: AbortSignal): Promise<api.Machine> {
  const machine = node.machines.find(reference, operation);
  const signal = AbortSignal.any([caller, node.shutdown]);
  if (machine.record.state !== "suspended") await suspendMachine(node, machine, { signal });
  return machineMessage(machine.record);
}

/**
 * Turns a machine that runs, or is paused, into files of its own that cost neither memory nor a process.
 *
 * Until its record says `suspended` the machine goes on when something fails, and a spored that finds it takes it
 * over as it was; from then on its process is only what is left to be ended. What is not known by then to be on the
 * disk is synced before that, so that the end of the process never is the end of the machine.
 *
 * @param options.unless asked when the machine's turn has come: true calls it off
 * @throws SporeletError `failed_precondition` when it does not run or stops meanwhile; `guest_failed` for a hook;
 *   `resource_exhausted`. The machine goes on, and nothing is left.
 */
export async function suspendMachine(
  node: Node,
  machine: ManagedMachine,
  { signal: outer, unless }: { signal: AbortSignal; unless?: () => boolean },
): Promise<void> {
  const begunAt = performance.now();
  const states = ["running", "paused"] as const;
  await arrived(node, machine, { operation, signal: outer }, states);
  await machine.exclusive(async () => {
    if (machine.record.state === "suspended" || unless?.()) return;
    const live = requireState(machine, operation, states);
    const signal = AbortSignal.any([outer, machine.gone.signal]);
    const { wakeOnConnect } = machine.record;
    // From here on nobody is sent to a guest that is about to stand still.
    if (wakeOnConnect) live.ports.hold();
    try {
      await freezeForGood(node, machine, live, signal);
    } catch (error) {
      if (wakeOnConnect && machine.live === live) live.ports.point(live.network.record);
      throw await stoppedOr(error, machine, live, operation);
    }
    await putAway(node, machine, live);
    const tookMs = performance.now() - begunAt;
    node.metrics.suspended(tookMs);
    node.log.info("machine suspended", { machine: machine.name, id: machine.id, tookMs });
  });
  void settle(node, machine);
}

/** One at a time, and not at once: who wakes it right away, or suspends the next one, does not wait for this. */
const settling = createGate(1);
const settleAfterMs = 3000;

async function settle(node: Node, machine: ManagedMachine): Promise<void> {
  const { record } = machine;
  using _alive = node.activity.begin();
  const isStill = () =>
    machine.record.state === "suspended" &&
    machine.record.ownState === record.ownState &&
    [...node.machines].includes(machine);
  try {
    // What the wake reads first is in the page cache then, unless memory is needed for something else by that time.
    await readAhead((await readOwnState(record)).files, node.shutdown);
    await sleep(settleAfterMs, undefined, { signal: node.shutdown });
    await settling(async () => void (isStill() && (await settleOwnState(record))));
  } catch (error) {
    // Removed meanwhile, for one.
    if (node.shutdown.aborted || !isStill()) return;
    node.log.error("memory of a suspended machine not synced", error, { machine: machine.name });
  }
}

/** When this returns the machine's record says that it is suspended; when it throws the machine goes on. */
async function freezeForGood(
  node: Node,
  machine: ManagedMachine,
  live: LiveParts,
  signal: AbortSignal,
): Promise<void> {
  const { record } = machine;
  await using undo = new AsyncDisposableStack();
  const base = record.ownState === undefined ? await parentOf(node, machine, operation) : undefined;
  const own = base?.config ?? (await ownConfig(record));
  if (own === undefined) throw new Error("no config");
  const config = {
    ...own,
    vmm: await writerOf(node, machine, own),
    shape: shapeOfMachine(own.shape, record),
  };
  const variables = Object.keys(await environmentOf(node, record.id));
  const name = await makeOwnState(record);
  const directory = path.join(record.directory, name);
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const hot =
    base === undefined ? path.join(ownStatePath(record) ?? "", "workingset") : base.files.workingset;
  // A wake without it is only slower.
  if (hot !== undefined) await link(hot, path.join(directory, "workingset")).catch(() => {});
  const capturing = async (signal: AbortSignal) => {
    const target = path.join(directory, "memory");
    const memory = base && baseOf(machine, base);
    const prepared = undo.use(
      await prepareCapture({ machine: live.vm, target, base: memory, last: true, signal }),
    );
    // That it is a clone has to be on the disk before its journal is what completes it.
    if (live.vm.origin === "resume") await syncPath(target);
    // For a journal of its pages, and these in their places.
    await requireRoomFor(directory, 2 * prepared.expectedBytes, { operation, subject: machine.name });
    return prepared;
  };
  const wasPaused = record.state === "paused";
  if (wasPaused) await live.vm.unpause();
  try {
    let capture: MemoryCapture | undefined;
    await live.agent.whileParked(
      async (client, signal) => {
        const { hookTimeoutMs } = config;
        // What the disk does not need is its own affair, and memory that the agent does not need costs nothing: it
        // stays where it is.
        const request = { hookTimeoutMs, trim: false, private: true };
        const [, prepared] = await together([quiesce(client, machine, request, signal), capturing(signal)]);
        capture = prepared;
      },
      async () => {
        if (capture === undefined) throw new Error("no capture");
        await standStill(machine, live, { name, directory, capture, config, variables, signal });
      },
      signal,
    );
  } catch (error) {
    if (wasPaused && machine.live === live) await live.vm.pause().catch(() => {});
    throw error;
  }
  undo.move();
}

interface Standing {
  /** Of the new state's directory, and its path. */
  name: string;
  directory: string;
  capture: MemoryCapture;
  config: SnapshotConfig;
  variables: string[];
  signal: AbortSignal;
}

/** The guest does not run again after this, unless something fails. */
async function standStill(
  machine: ManagedMachine,
  live: LiveParts,
  { name, directory, capture, config, variables, signal }: Standing,
): Promise<void> {
  const into = (file: string) => path.join(directory, file);
  try {
    await live.vm.pause();
    await live.vm.saveState(into("vmstate"), signal);
    await capture.take(signal);
    // While the journal is there its memory may find its way to the disk later.
    const files = ["vmstate", "config.json"];
    files.push((await capture.journal(into("pages"), signal)) ? "pages" : "memory");
    if (machine.record.diskBytes > 0) {
      await link(path.join(machine.record.directory, "disk"), into("disk"));
      files.push("disk");
    }
    await writeFile(into("config.json"), JSON.stringify(config), { mode: 0o400 });
    await together([capture.complete(signal), ...files.map((file) => syncPath(into(file)))]);
    await syncPath(directory);
    signal.throwIfAborted();
    await machine.commit({
      ...{ state: "suspended", ownState: name, variables },
      ...{ process: undefined, network: { kind: "none" } },
    });
  } catch (error) {
    // Should only the last step of writing its record have failed, that is to be undone on the disk too.
    await machine.update({}).catch(() => {});
    await live.vm.unpause().catch(() => {}); // It has ended: that says more.
    throw error;
  }
  // Nobody is to look for the agent again.
  live.agent.close();
}

/** Ends the process of a machine that is suspended, and removes what it does not need. */
async function putAway(node: Node, machine: ManagedMachine, live: LiveParts): Promise<void> {
  const { record } = machine;
  if (record.wakeOnConnect) machine.dormant = { ports: live.ports, alive: node.activity.begin() };
  else
    await live.ports
      .close()
      .catch((error) => node.log.error("ports not closed", error, { machine: machine.name }));
  await release(node, machine, { dormant: true });
  machine.dormant?.ports.cut();
  await removeRunFiles(record).catch((error) => {
    node.log.error("files of a suspended machine not removed", error, { machine: machine.name });
  });
  machine.stopped.abort();
}

/** What only a running machine has: its disk is in its state, and so is the memory that it was booted with. */
export async function removeRunFiles(record: ManagedMachine["record"]): Promise<void> {
  await removeOtherStates(record);
  await together(["disk", "memory"].map((file) => rm(path.join(record.directory, file), { force: true })));
}
