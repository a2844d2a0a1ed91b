import path from "node:path";
import { cloneFile } from "@sporelet/host";
import { lazyPartsOf } from "./lazy/types.ts";
import { dropEnvironment } from "./lifecycle.ts";
import type { ManagedMachine } from "./machine.ts";
import type { MachineNetwork } from "./network.ts";
import type { Node } from "./node.ts";
import { writeRecord } from "./record.ts";
import { keepEnvironment, type StartPlan } from "./start.ts";
import { together } from "./together.ts";

/** What a machine has before its VMM is started. */
export interface Preparation {
  network: MachineNetwork;
  /** Its own disks, in order, for the driver. */
  disks: { path: string }[];
  /** How its disk was made; absent for a machine without one. */
  diskClone?: "reflink" | "copy";
}

/**
 * Prepares a machine that `enlist` made: its directory and record, a network, and a clone of its snapshot's
 * disk, side by side.
 *
 * @param undo gets what takes all of this back, and the machine from the list, whatever fails afterwards
 */
export async function prepareMachine(
  node: Node,
  machine: ManagedMachine,
  plan: StartPlan,
  { undo, signal }: { undo: AsyncDisposableStack; signal: AbortSignal },
): Promise<Preparation> {
  const { snapshot, env, ports } = plan;
  const { id, record } = machine;
  undo.defer(() => node.machines.delete(machine));
  signal.throwIfAborted();
  undo.defer(() => node.store.machines.remove(id));
  undo.defer(() => dropEnvironment(node, id));
  await node.store.machines.create(id);
  const disk = path.join(record.directory, "disk");
  const lazy = lazyPartsOf(snapshot);
  if (lazy !== undefined) undo.defer(() => lazy.removeDisk(id).catch(() => {}));
  const [network, ownDisk] = await together([
    node.networks.take(snapshot.config.shape.network, ports, signal).then((taken) => {
      undo.defer(() => taken.release());
      return taken;
    }),
    makeDisk(snapshot, id, disk, signal),
    // The record is there before the process: a later spored finds what this one began.
    writeRecord(record),
    keepEnvironment(node, id, env),
  ]);
  return { network, disks: [], ...ownDisk };
}

/** A machine's own disk, whose blocks are its snapshot's until it writes to them. */
async function makeDisk(
  snapshot: StartPlan["snapshot"],
  id: string,
  file: string,
  signal: AbortSignal,
): Promise<Pick<Preparation, "disks" | "diskClone"> | undefined> {
  const lazy = lazyPartsOf(snapshot);
  if (lazy !== undefined && snapshot.config.files.disk !== undefined) {
    return { disks: [{ path: await lazy.addDisk(id, file) }], diskClone: "reflink" };
  }
  const source = snapshot.files.disk;
  if (source === undefined) return undefined;
  return { diskClone: await cloneFile(source, file, { signal }), disks: [{ path: file }] };
}
