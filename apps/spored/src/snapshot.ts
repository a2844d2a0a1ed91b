import { open } from "node:fs/promises";
import path from "node:path";
import type { HandlerContext } from "@connectrpc/connect";
import { type AgentClient, agentProtocol, type node as api, fromConnectError } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { cloneFile } from "@sporelet/host";
import { normalizeReference, type SnapshotDraft, type StoredSnapshot } from "@sporelet/store";
import { type MemoryCapture, prepareCapture } from "@sporelet/vmm";
import { type LiveParts, type ManagedMachine, requireState } from "./machine.ts";
import type { Node } from "./node.ts";
import { together } from "./together.ts";

const operation = "snapshot";
/** Hooks and trimming of a guest before a freeze, as a whole. */
const quiesceTimeoutMs = 60_000;

/**
 * CreateSnapshot: freezes a running machine into the store and lets it go on. Copies of what does not change
 * are made before the pause, digests after it; in the pause are the device state, the pages that the guest
 * changed, and a reflink of its disk.
 */
export async function createSnapshot(
  node: Node,
  request: api.CreateSnapshotRequest,
  context: HandlerContext,
): Promise<StoredSnapshot> {
  const machine = node.machines.find(request.machine, operation);
  const tag = request.tag === "" ? undefined : normalizeReference(request.tag);
  if (tag !== undefined && !request.force) await requireFree(node, tag);
  return await machine.exclusive(async () => {
    const live = requireState(machine, operation, ["running"]);
    const signal = AbortSignal.any([context.signal, machine.gone.signal, node.shutdown]);
    try {
      return await freeze(node, machine, live, tag, signal);
    } catch (error) {
      const ours = SporeletError.from(error, { operation, subject: machine.name });
      if (!machine.gone.signal.aborted || ours.code !== "cancelled") throw ours;
      const reason = "the machine stopped meanwhile";
      throw new SporeletError({ code: "failed_precondition", operation, subject: machine.name, reason });
    }
  });
}

async function freeze(
  node: Node,
  machine: ManagedMachine,
  live: LiveParts,
  tag: string | undefined,
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  const parent = await parentOf(node, machine);
  const probe = await node.probes.get();
  await using draft = await node.store.newSnapshot();
  const into = (file: string) => path.join(draft.directory, file);
  await using capture = await prepareCapture({ machine: live.vm, target: into("memory"), signal });
  await together([
    parent.files.kernel && cloneFile(parent.files.kernel, into("kernel"), { signal }),
    parent.files.initramfs && cloneFile(parent.files.initramfs, into("initramfs"), { signal }),
  ]);
  const pauseMs = await live.agent.whileParked(
    (client) => quiesce(client, machine, parent.config.hookTimeoutMs, signal),
    () => inPause(machine, live, draft, capture, signal),
    signal,
  );
  const { config } = parent;
  const { kernel, initramfs } = config.files;
  const stored = await draft.commit(
    {
      layer: Math.max(2, config.layer + 1),
      parent: parent.digest,
      source: machine.name,
      vmm: { ...config.vmm, version: probe.version ?? config.vmm.version },
      shape: config.shape,
      kernel: config.kernel,
      agent: { ...config.agent, protocol: agentProtocol },
      // The same files, so the same digests; the others are computed.
      files: { ...(kernel && { kernel }), ...(initramfs && { initramfs }) },
      ports: config.ports,
      services: config.services,
      pauseMs,
      recipe: { from: parent.digest, machine: machine.name },
      ...(config.compose && { compose: config.compose }),
      ...(config.hookTimeoutMs !== undefined && { hookTimeoutMs: config.hookTimeoutMs }),
    },
    tag,
    signal,
  );
  node.log.info("snapshot made", { machine: machine.name, digest: stored.digest, tag, pauseMs });
  return stored;
}

/** The machine goes on whatever happens. @returns how long it stood still */
async function inPause(
  machine: ManagedMachine,
  live: LiveParts,
  draft: SnapshotDraft,
  capture: MemoryCapture,
  signal: AbortSignal,
): Promise<number> {
  const disk = machine.record.diskBytes > 0 ? path.join(machine.record.directory, "disk") : undefined;
  // A reflink waits until the file's dirty pages are written: most of them now rather than in the pause.
  if (disk !== undefined) await writeBack(disk);
  const pausedAt = performance.now();
  await live.vm.pause();
  try {
    await live.vm.saveState(path.join(draft.directory, "vmstate"), signal);
    await together([
      capture.finish(signal),
      disk && cloneFile(disk, path.join(draft.directory, "disk"), { signal }),
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

async function quiesce(
  client: AgentClient,
  machine: ManagedMachine,
  hookTimeoutMs: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(quiesceTimeoutMs)]);
  // Caches stay: what is hot in this machine is to be hot in its clones.
  const request = { hookTimeoutMs: hookTimeoutMs ?? 0, dropCaches: false, trim: true };
  const context = { operation: "quiesce", subject: machine.name };
  const reply = await client.quiesce(request, { signal: limit }).catch((error) => {
    throw fromConnectError(error, context);
  });
  if (reply.error === undefined) return;
  const { hook, message, output } = reply.error;
  const reason = hook === "" ? message : `the hook ${message}`;
  throw new SporeletError({ ...context, code: "guest_failed", reason, log: output || undefined });
}

/** The snapshot that a machine comes from: its shape and kernel are those of the new one. */
async function parentOf(node: Node, machine: ManagedMachine): Promise<StoredSnapshot> {
  try {
    return await node.store.resolve(machine.record.snapshotDigest);
  } catch (error) {
    if (!(error instanceof SporeletError) || error.code !== "not_found") throw error;
    throw new SporeletError({
      code: "failed_precondition",
      operation,
      subject: machine.name,
      reason: `the snapshot that it was started from, ${machine.record.snapshot}, was removed`,
      cause: error,
    });
  }
}

async function requireFree(node: Node, tag: string): Promise<void> {
  const existing = await node.store.resolve(tag).catch((error: unknown) => {
    if (error instanceof SporeletError && error.code === "not_found") return undefined;
    throw error;
  });
  if (existing === undefined) return;
  throw new SporeletError({
    code: "already_exists",
    operation: "name the snapshot",
    subject: tag,
    reason: `there is one, ${existing.digest.slice(0, 19)}`,
    hint: "choose another name, or force it",
  });
}
