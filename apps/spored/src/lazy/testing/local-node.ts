import { mkdir } from "node:fs/promises";
import path from "node:path";
import { makeRuntimeDirectory, openVolume, ownerOf } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { openStore, type StoredSnapshot } from "@sporelet/store";
import { createQemu } from "@sporelet/vmm";
import { createActivity } from "../../activity.ts";
import { adoptAll } from "../../adopt.ts";
import { destroy } from "../../lifecycle.ts";
import { createLog } from "../../log.ts";
import type { ManagedMachine } from "../../machine.ts";
import { createMachines } from "../../machines.ts";
import { createMetrics } from "../../metrics.ts";
import { createNetworks } from "../../network.ts";
import type { Node } from "../../node.ts";
import { createProbes } from "../../probes.ts";
import { createResources } from "../../resources.ts";
import { resumeClone } from "../../resume.ts";
import { createSlots } from "../../slots/slots.ts";
import { enlist } from "../../start.ts";
import { createGate } from "../../together.ts";
import { createLazy } from "../lazy.ts";

/** The parts of a spored, in this process: what is behind its calls can be reached. */
export interface LocalNode extends AsyncDisposable {
  node: Node;
  log: string[];
  /** Resumes a clone. */
  run(from: { snapshot: StoredSnapshot }, name: string, timeoutMs?: number): Promise<ManagedMachine>;
  remove(machine: ManagedMachine): Promise<void>;
}

/** @param givenHome one that stays. Default: a home of its own, removed at the end */
export async function openLocalNode(givenHome?: string): Promise<LocalNode> {
  await using undo = new AsyncDisposableStack();
  const home = givenHome ?? path.join(undo.use(await temporaryDirectory()).path, "home");
  await mkdir(home, { recursive: true });
  const volume = undo.use(await openVolume({ home }));
  const runtimeDirectory = await makeRuntimeDirectory(home);
  const store = await openStore({ root: volume.path });
  const vmm = createQemu();
  const networks = undo.use(createNetworks({ owner: ownerOf(home) }));
  const activity = undo.use(createActivity(0));
  const log: string[] = [];
  const shutdown = new AbortController();
  const machines = createMachines();
  const logger = createLog((line) => void log.push(line));
  const parts = {
    ...{ home, runtimeDirectory, store, vmm, networks, machines, activity },
    log: logger,
    resources: createResources({ owner: ownerOf(home), log: logger }),
    probes: createProbes(vmm, path.join(store.root, "cache")),
    starts: createGate(4),
    metrics: createMetrics(),
    shutdown: shutdown.signal,
  };
  const node: Node = { ...parts, lazy: createLazy(parts), slots: createSlots(parts) };
  undo.use(node.lazy);
  undo.use(node.slots);
  await adoptAll(node);
  const remove = (machine: ManagedMachine) => machine.exclusive(() => destroy(node, machine));
  undo.defer(async () => {
    shutdown.abort();
    for (const machine of machines) await remove(machine);
  });
  const owned = undo.move();
  return {
    node,
    log,
    remove,
    async run({ snapshot }, name, timeoutMs = 30_000) {
      const plan = {
        ...{ snapshot, reference: name, name, ports: [], env: {}, remove: false },
        arrivedAt: performance.now(),
      };
      const machine = enlist(node, plan, "resume");
      await resumeClone(node, machine, plan, AbortSignal.timeout(timeoutMs));
      return machine;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
