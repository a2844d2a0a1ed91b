import { open } from "node:fs/promises";
import path from "node:path";
import { type AgentClient, agent, agentProtocol, fromConnectError } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { cloneFile, type Extent, loadSyscalls, pageBytes } from "@sporelet/host";
import { differingPages, type PageRun } from "@sporelet/page-image";
import type {
  ChangedPages,
  Lease,
  SnapshotConfig,
  SnapshotDescription,
  SnapshotDraft,
  StoredSnapshot,
} from "@sporelet/store";
import { type MemoryCapture, prepareCapture, stateOrigin } from "@sporelet/vmm";
import { shapeOfMachine } from "./host-shape.ts";
import { type LiveParts, type ManagedMachine, requireState } from "./machine.ts";
import type { Node } from "./node.ts";
import { ownConfig } from "./own-state.ts";
import { requireRoomFor } from "./room.ts";
import { together, unlessAborted } from "./together.ts";

/** Hooks and trimming of a guest before a freeze, as a whole. */
const quiesceTimeoutMs = 60_000;
/** For the news that a process has ended. */
const endTimeoutMs = 5_000;

export interface FreezeOptions {
  /** For errors: snapshot, fork. */
  operation: string;
  /** Name of the new snapshot, as the store writes it. */
  tag?: string | undefined;
  signal: AbortSignal;
}

export interface Frozen {
  snapshot: StoredSnapshot;
  /** How long the machine stood still. */
  pauseMs: number;
  /** Nothing removes the snapshot before this is disposed of, whether it has a name or not. */
  lease: Lease;
}

/**
 * Freezes a running machine into the store and lets it go on: a child of the snapshot that it comes from, which
 * costs the pages that differ. Copies of what does not change are made before the pause; in the pause are the
 * device state, the pages that the guest made its own, and a reflink of its disk; comparing, digests and all
 * writing come after it, when nobody waits but the caller.
 *
 * @throws SporeletError `failed_precondition` when it does not run, stops meanwhile, or its snapshot is gone;
 *   `guest_failed` for a hook; `resource_exhausted`. The machine goes on, and nothing is left.
 */
export async function freezeMachine(
  node: Node,
  machine: ManagedMachine,
  options: FreezeOptions,
): Promise<Frozen> {
  const { operation, tag } = options;
  await arrived(node, machine, options);
  await using made = new AsyncDisposableStack();
  const draft = made.use(await node.store.newSnapshot());
  // Until its state is taken the machine is needed; afterwards it may even end.
  const taken = await machine.exclusive(async () => {
    const live = requireState(machine, operation, ["running"]);
    const signal = AbortSignal.any([options.signal, machine.gone.signal]);
    try {
      return await takeState(node, machine, live, { draft, made, operation, signal });
    } catch (error) {
      throw await stoppedOr(error, machine, live, operation);
    }
  });
  const { signal } = options;
  const { parent, capture, pauseMs } = taken;
  const into = (file: string) => path.join(draft.directory, file);
  const [memory, disk] = await together([
    capture.complete(signal),
    parent.files.disk === undefined ? undefined : differingPages(into("disk"), parent.files.disk, { signal }),
  ]);
  const changed: ChangedPages = {
    // Of a woken machine that says what changed since; how that differs from the parent is found out.
    ...(memory.changed && machine.record.ownState === undefined && { memory: pageRuns(memory.changed) }),
    ...(disk && { disk }),
  };
  const description = { ...(await describe(node, machine, parent)), pauseMs, changed };
  const snapshot = await draft.commit(description, tag, signal);
  const lease = node.store.lease(snapshot.digest, `${operation} of ${machine.name}`);
  node.log.info("snapshot made", { machine: machine.name, digest: snapshot.digest, tag, pauseMs });
  return { snapshot, pauseMs, lease };
}

/** What a machine is compared with has to be there as a whole, if it was started while that was being fetched. */
export async function arrived(
  node: Node,
  machine: ManagedMachine,
  { operation, signal }: Pick<FreezeOptions, "operation" | "signal">,
  states: readonly ("running" | "paused")[] = ["running"],
): Promise<void> {
  const live = requireState(machine, operation, states);
  try {
    await node.lazy.settled(machine, AbortSignal.any([signal, machine.gone.signal]));
  } catch (error) {
    throw await stoppedOr(error, machine, live, operation);
  }
}

interface Taking {
  draft: SnapshotDraft;
  /** Disposes of what is made here. */
  made: AsyncDisposableStack;
  operation: string;
  signal: AbortSignal;
}

/** What is in the draft afterwards is a whole frozen machine, once the capture is completed. */
async function takeState(
  node: Node,
  machine: ManagedMachine,
  live: LiveParts,
  { draft, made, operation, signal }: Taking,
): Promise<{ parent: StoredSnapshot; capture: MemoryCapture; pauseMs: number }> {
  loadSyscalls();
  const parent = await parentOf(node, machine, operation);
  // What changed is compared with it, when the machine may have been removed already.
  made.use(node.store.lease(parent.digest, `${operation} of ${machine.name}`));
  const into = (file: string) => path.join(draft.directory, file);
  const inherit = async (file: "kernel" | "initramfs" | "workingset") => {
    const source = parent.files[file];
    if (source !== undefined) await cloneFile(source, into(file), { signal });
  };
  const [capture] = await together([
    prepareCapture({ machine: live.vm, target: into("memory"), base: baseOf(machine, parent), signal }),
    inherit("kernel"),
    inherit("initramfs"),
    inherit("workingset"),
  ]);
  made.use(capture);
  await requireRoomFor(draft.directory, capture.expectedBytes, { operation, subject: machine.name });
  const disk = machine.record.diskBytes > 0 ? path.join(machine.record.directory, "disk") : undefined;
  const { hookTimeoutMs } = parent.config;
  const pauseMs = await live.agent.whileParked(
    async (client, signal) => {
      const request = { hookTimeoutMs, trim: true, stage: agent.QuiesceStage.PREPARE };
      await quiesce(client, machine, request, signal);
      // A reflink waits until the file's dirty pages are written, which may be all that the guest has just synced:
      // now, while its programs still run.
      if (disk !== undefined) await writeBack(disk);
      await quiesce(client, machine, { trim: false, stage: agent.QuiesceStage.STOP }, signal);
    },
    () => inPause(live, { disk, draft, capture, signal }),
    signal,
  );
  return { parent, capture, pauseMs };
}

interface Pause {
  /** Of the machine, if it has one. */
  disk: string | undefined;
  draft: SnapshotDraft;
  capture: MemoryCapture;
  signal: AbortSignal;
}

/** The machine goes on whatever happens. @returns how long it stood still */
async function inPause(live: LiveParts, { disk, draft, capture, signal }: Pause): Promise<number> {
  const pausedAt = performance.now();
  try {
    await live.vm.pause();
    await live.vm.saveState(path.join(draft.directory, "vmstate"), signal);
    await together([
      disk && cloneFile(disk, path.join(draft.directory, "disk"), { signal }),
      capture.take(signal),
    ]);
  } finally {
    await live.vm.unpause();
  }
  return performance.now() - pausedAt;
}

async function writeBack(file: string): Promise<void> {
  await using handle = await open(file, "r");
  await handle.datasync();
}

/** Has a guest run its hooks and forget what is not to be frozen. */
export async function quiesce(
  client: AgentClient,
  machine: ManagedMachine,
  options: {
    hookTimeoutMs?: number | undefined;
    trim: boolean;
    private?: boolean;
    stage?: agent.QuiesceStage;
  },
  signal: AbortSignal,
): Promise<void> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(quiesceTimeoutMs)]);
  // Caches stay: what is hot in this machine is to be hot in its clones.
  const request = { ...options, hookTimeoutMs: options.hookTimeoutMs ?? 0, dropCaches: false };
  const context = { operation: "quiesce", subject: machine.name };
  const reply = await client.quiesce(request, { signal: limit }).catch((error) => {
    throw fromConnectError(error, context);
  });
  if (reply.error === undefined) return;
  const { hook, message, output } = reply.error;
  const reason = hook === "" ? message : `the hook ${message}`;
  throw new SporeletError({ ...context, code: "guest_failed", reason, log: output || undefined });
}

async function describe(
  node: Node,
  machine: ManagedMachine,
  { config, digest }: StoredSnapshot,
): Promise<SnapshotDescription> {
  const { kernel, initramfs, workingset } = config.files;
  const vmm = await writerOf(node, machine, config);
  return {
    layer: Math.max(2, config.layer + 1),
    parent: digest,
    source: machine.name,
    vmm,
    shape: shapeOfMachine(config.shape, machine.record),
    kernel: config.kernel,
    agent: { ...config.agent, protocol: agentProtocol },
    // The same files, so the same digests; the others are computed.
    files: { ...(kernel && { kernel }), ...(initramfs && { initramfs }), ...(workingset && { workingset }) },
    ports: config.ports,
    services: config.services,
    recipe: { from: digest, machine: machine.name },
    ...(config.compose && { compose: config.compose }),
    ...(config.hookTimeoutMs !== undefined && { hookTimeoutMs: config.hookTimeoutMs }),
  };
}

/** What a machine's state is tied to: the process that writes that of a clone is of the version that it resumed. */
export async function writerOf(
  node: Node,
  { record }: ManagedMachine,
  config: SnapshotConfig,
): Promise<SnapshotConfig["vmm"]> {
  const own = await ownConfig(record);
  if (own !== undefined) return own.vmm;
  if (record.origin === "resume") return config.vmm;
  return await stateOrigin(await node.probes.get(), record.accelerator);
}

/**
 * The file that a machine's memory was mapped from, if that is not the very file that its VMM has: one that was
 * started while its snapshot was fetched has a file of another file system.
 */
export function baseOf({ record }: ManagedMachine, parent: StoredSnapshot): string | undefined {
  return record.ownState === undefined ? parent.files.memory : undefined;
}

/** The snapshot that a machine comes from: its shape and kernel are those of the new one. */
export async function parentOf(
  node: Node,
  { name, record }: ManagedMachine,
  operation: string,
): Promise<StoredSnapshot> {
  try {
    return await node.store.resolve(record.snapshotDigest);
  } catch (error) {
    if (!(error instanceof SporeletError) || error.code !== "not_found") throw error;
    throw new SporeletError({
      code: "failed_precondition",
      operation,
      subject: name,
      reason: `the snapshot that it was started from, ${record.snapshot}, was removed`,
      cause: error,
    });
  }
}

/** A machine that ended meanwhile explains more than the first thing that failed because of it. */
export async function stoppedOr(
  error: unknown,
  { name, gone }: ManagedMachine,
  { vm }: LiveParts,
  operation: string,
): Promise<SporeletError> {
  const ours = SporeletError.from(error, { operation, subject: name });
  if (!gone.signal.aborted) {
    // The news of its end may come a little later than what fails of it. A process that has ended maps nothing.
    const regions = await vm.memoryMap().catch(() => []);
    if (regions.length > 0) return ours;
    await unlessAborted(vm.ended, AbortSignal.timeout(endTimeoutMs)).catch(() => {});
  }
  const reason = "the machine stopped meanwhile";
  return new SporeletError({ code: "failed_precondition", operation, subject: name, reason, cause: error });
}

function pageRuns(extents: readonly Extent[]): PageRun[] {
  return extents.map(({ offset, length }) => ({ page: offset / pageBytes, count: length / pageBytes }));
}
