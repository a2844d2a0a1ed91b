import { open } from "node:fs/promises";
import { totalmem } from "node:os";
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { scanData } from "@sporelet/host";
import { callTime } from "../call-time.ts";
import type { Node } from "../node.ts";
import { obtain } from "../obtain.ts";
import type { SlotStatus, Wanted } from "./slots.ts";

/** Each has a process and a network of its own; beyond this the number is more likely a slip. */
const mostSlots = 1000;
const timeoutMs = 900_000;

/** KeepSlots: clones of a snapshot that are prepared ahead. */
export async function keepSlots(
  node: Node,
  request: api.KeepSlotsRequest,
  context: HandlerContext,
): Promise<api.SlotPool> {
  const { snapshot: reference, registry, slots, automatic, memoryBytes } = request;
  if (slots > mostSlots) {
    throw new SporeletError({
      code: "invalid_argument",
      operation: "keep slots of",
      subject: reference,
      reason: `${slots} are too many: at most ${mostSlots}`,
    });
  }
  const wanted: Wanted = automatic
    ? { automatic, memoryBytes: Number(memoryBytes) || totalmem() / 10 }
    : { slots };
  const time = callTime(context.signal, 0);
  using obtained = await obtain(
    node,
    { snapshot: reference, registry, fetch: "eager" },
    { onEvent: () => {}, time, signal: time.atMost(timeoutMs) },
  );
  return poolMessage(await node.slots.keep(obtained.snapshot, reference, wanted));
}

export async function listSlots(node: Node): Promise<api.ListSlotsResponse> {
  return create(api.ListSlotsResponseSchema, { pools: (await node.slots.list()).map(poolMessage) });
}

/** WarmCache: the next resumes find the snapshot's pages in memory. */
export async function warmCache(
  node: Node,
  { snapshot: reference }: api.SnapshotRef,
  signal: AbortSignal,
): Promise<api.WarmCacheResponse> {
  const { snapshot, lease } = await node.store.acquire(reference, "cache warm");
  using _lease = lease;
  const { memory, disk, vmstate } = snapshot.files;
  let bytes = 0;
  for (const file of [vmstate, memory, ...(disk ? [disk] : [])]) {
    await using handle = await open(file, "r");
    await scanData(
      handle,
      (_buffer, length) => {
        bytes += length;
      },
      signal,
    );
  }
  return create(api.WarmCacheResponseSchema, { bytes: BigInt(bytes) });
}

function poolMessage(status: SlotStatus): api.SlotPool {
  const { reference, digest, privateBytes, problem = "", ...counts } = status;
  return create(api.SlotPoolSchema, {
    ...counts,
    snapshot: reference,
    snapshotDigest: digest,
    privateBytes: BigInt(privateBytes),
    problem,
  });
}
