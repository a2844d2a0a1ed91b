import type { HandlerContext } from "@connectrpc/connect";
import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { normalizeReference, type StoredSnapshot } from "@sporelet/store";
import { freezeMachine } from "./freeze.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";

const operation = "snapshot";

/** CreateSnapshot: freezes a running machine into the store and lets it go on. */
export async function createSnapshot(
  node: Node,
  request: api.CreateSnapshotRequest,
  context: HandlerContext,
): Promise<StoredSnapshot> {
  const machine = node.machines.find(request.machine, operation);
  if (request.diff) requireResumed(machine, request.tag);
  const tag = request.tag === "" ? undefined : normalizeReference(request.tag);
  if (tag !== undefined && !request.force) await requireFree(node, tag);
  const signal = AbortSignal.any([context.signal, node.shutdown]);
  const { snapshot, lease } = await freezeMachine(node, machine, { operation, tag, signal });
  lease[Symbol.dispose]();
  return snapshot;
}

/** A machine that was booted shares nothing with the memory of the snapshot that it was booted from. */
function requireResumed({ name, record }: ManagedMachine, tag: string): void {
  if (record.origin === "resume") return;
  throw new SporeletError({
    code: "failed_precondition",
    operation,
    subject: name,
    reason: "it was booted, not resumed from a snapshot: there is nothing that it could be a difference to",
    hint: `sporectl snapshot create ${name} -t ${tag || "NAME"} freezes it whole`,
  });
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
