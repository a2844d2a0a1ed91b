import path from "node:path";
import { cloneFile } from "@sporelet/host";
import type { StoredSnapshot } from "@sporelet/store";
import type { Slot } from "@sporelet/vmm";
import { exactPagesLauncher } from "./lazy/launch.ts";
import { lazyPartsOf } from "./lazy/types.ts";
import type { MachineNetwork } from "./network.ts";
import type { Node } from "./node.ts";
import type { PortRecord } from "./record.ts";
import { together } from "./together.ts";

/** What a machine has before its VMM is started. */
export interface MachineParts {
  network: MachineNetwork;
  /** Its own disks, in order, for the driver. */
  disks: { path: string }[];
  /** How its disk was made; absent for a machine without one. */
  diskClone?: "reflink" | "copy";
}

export interface PartsOptions {
  /** Of the machine, whose directory is made. */
  id: string;
  snapshot: StoredSnapshot;
  /** Published by the VMM itself where it makes the network. */
  ports: readonly PortRecord[];
  /** Trust domain whose machines' memory is merged with its own; see `StartPlan`. */
  ksm?: string | undefined;
  signal: AbortSignal;
}

/**
 * Makes a machine's directory, and side by side its network and a clone of its snapshot's disk.
 *
 * @param undo gets what takes all of this back
 */
export async function makeParts(
  node: Pick<Node, "store" | "networks">,
  { id, snapshot, ports, signal }: PartsOptions,
  undo: AsyncDisposableStack,
): Promise<MachineParts> {
  signal.throwIfAborted();
  undo.defer(() => node.store.machines.remove(id));
  const directory = await node.store.machines.create(id);
  const lazy = lazyPartsOf(snapshot);
  if (lazy !== undefined) undo.defer(() => lazy.removeDisk(id).catch(() => {}));
  const [network, ownDisk] = await together([
    node.networks.take(snapshot.config.shape.network, ports, signal).then((taken) => {
      undo.defer(() => taken.release());
      return taken;
    }),
    makeDisk(snapshot, id, path.join(directory, "disk"), signal),
  ]);
  return { network, disks: [], ...ownDisk };
}

/** A machine's own disk, whose blocks are its snapshot's until it writes to them. */
async function makeDisk(
  snapshot: StoredSnapshot,
  id: string,
  file: string,
  signal: AbortSignal,
): Promise<Pick<MachineParts, "disks" | "diskClone"> | undefined> {
  const lazy = lazyPartsOf(snapshot);
  if (lazy !== undefined && snapshot.config.files.disk !== undefined) {
    return { disks: [{ path: await lazy.addDisk(id, file) }], diskClone: "reflink" };
  }
  const source = snapshot.files.disk;
  if (source === undefined) return undefined;
  return { diskClone: await cloneFile(source, file, { signal }), disks: [{ path: file }] };
}

/** A clone that lacks nothing but its identity: directory, network, disk, and a VMM that waits to run its state. */
export interface PreparedClone extends AsyncDisposable {
  /** Of the machine that it becomes. */
  readonly id: string;
  readonly snapshot: StoredSnapshot;
  readonly slot: Slot;
  readonly network: MachineNetwork;
  readonly diskClone?: "reflink" | "copy" | undefined;
  /** Ends its VMM, and removes all that it has. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Prepares a clone. Whatever fails, or is aborted, is undone before this returns.
 *
 * @param options.weight what its VMM weighs until somebody says otherwise: `preparing` when nobody waits for it
 */
export async function prepareClone(
  node: Pick<Node, "store" | "networks" | "vmm" | "runtimeDirectory" | "resources">,
  options: PartsOptions & { weight: "preparing" | "resuming" },
): Promise<PreparedClone> {
  const { id, snapshot, ksm, weight, signal } = options;
  const { config, files } = snapshot;
  const lazy = lazyPartsOf(snapshot);
  await using undo = new AsyncDisposableStack();
  const { network, disks, diskClone } = await makeParts(node, options, undo);
  undo.defer(async () => void (await node.resources.ended({ id })));
  await node.resources.enterDomain(id, ksm);
  const slot = await node.vmm.prepare(
    {
      id,
      directory: node.store.machines.path(id),
      runtimeDirectory: node.runtimeDirectory,
      shape: config.shape,
      memory: files.memory,
      vmstate: files.vmstate,
      ...(files.kernel && { kernel: files.kernel }),
      ...(files.initramfs && { initramfs: files.initramfs }),
      kernelArguments: config.kernel.arguments,
      disks,
      ...(lazy && { launcher: exactPagesLauncher() }),
      ...(network.backend && { network: network.backend }),
      mergeMemory: ksm !== undefined,
    },
    signal,
  );
  undo.use(slot);
  node.resources.weigh(slot.pid, weight);
  const made = undo.move();
  return { id, snapshot, slot, network, diskClone, [Symbol.asyncDispose]: () => made.disposeAsync() };
}
