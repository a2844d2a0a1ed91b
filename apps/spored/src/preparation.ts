import path from "node:path";
import { cloneFile } from "@sporelet/host";
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
  const source = snapshot.files.disk;
  const disk = path.join(record.directory, "disk");
  const [network, diskClone] = await together([
    node.networks.take(snapshot.config.shape.network, ports, signal).then((taken) => {
      undo.defer(() => taken.release());
      return taken;
    }),
    source === undefined ? undefined : cloneFile(source, disk, { signal }),
    // The record is there before the process: a later spored finds what this one began.
    writeRecord(record),
    keepEnvironment(node, id, env),
  ]);
  return { network, disks: source === undefined ? [] : [{ path: disk }], ...(diskClone && { diskClone }) };
}
