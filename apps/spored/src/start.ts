import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { HandlerContext } from "@connectrpc/connect";
import type { agent as messages } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { MachineLimits } from "@sporelet/host";
import type { StoredSnapshot } from "@sporelet/store";
import type { Machine as VmmMachine } from "@sporelet/vmm";
import type { Dormancy } from "./dormancy.ts";
import { newIdentity } from "./identity.ts";
import { lazyPartsOf } from "./lazy/types.ts";
import { environmentPath } from "./lifecycle.ts";
import { tailOfFile } from "./log-files.ts";
import { createMachine, type ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import type { MachineRecord, PortRecord, TimingsRecord } from "./record.ts";
import { arrivedAt, connectionOf } from "./server.ts";

/** One machine that is to be started. */
export interface StartPlan {
  snapshot: StoredSnapshot;
  /** As the person wrote it. */
  reference: string;
  name: string;
  ports: readonly PortRecord[];
  /** Secrets among it: given to the guest, never written into the record or the log. */
  env: Record<string, string>;
  /** Remove the machine when it stops. */
  remove: boolean;
  /** What it may take of the host. */
  limits?: MachineLimits | undefined;
  /** Trust domain whose machines' memory is merged with its own. Slots are prepared without one. */
  ksm?: string | undefined;
  /** Default: it neither falls asleep nor wakes by itself. */
  dormancy?: Dormancy | undefined;
  /** When the request arrived, on the clock of `performance.now()`. */
  arrivedAt: number;
  /** The connection that it came over; see `ManagedMachine.startedBy`. */
  connection?: object | undefined;
}

/** Whose start it is, and since when. */
export function originOf({ values }: HandlerContext): Pick<StartPlan, "arrivedAt" | "connection"> {
  return { arrivedAt: values.get(arrivedAt), connection: values.get(connectionOf) };
}

/**
 * Puts a machine that is to be started among the others, so that its id and name are taken; one that is to be
 * resumed becomes what lies ready in a slot, if something does.
 */
export function enlist(node: Node, plan: StartPlan, origin: MachineRecord["origin"]): ManagedMachine {
  const { config, digest } = plan.snapshot;
  const lazy = lazyPartsOf(plan.snapshot);
  const prepared = origin === "resume" ? node.slots.take(plan) : undefined;
  const id = prepared?.id ?? node.machines.newId();
  const record: MachineRecord = {
    formatVersion: 1,
    id,
    name: plan.name,
    state: "starting",
    snapshot: plan.reference,
    snapshotDigest: digest,
    created: new Date().toISOString(),
    origin,
    vmm: node.vmm.name,
    accelerator: config.shape.accelerator,
    memoryBytes: config.shape.memoryBytes,
    cpus: config.shape.cpus,
    diskBytes: config.files.disk?.sizeBytes ?? 0,
    directory: node.store.machines.path(id),
    runtimeDirectory: node.runtimeDirectory,
    network: { kind: "none" },
    ports: [],
    identity: newIdentity(plan.name),
    remove: plan.remove,
    ...(plan.limits && { limits: plan.limits }),
    ...plan.dormancy,
    ...(plan.ksm !== undefined && { ksm: plan.ksm }),
    ...(lazy && { lazy: lazy.id }),
  };
  const machine = createMachine(record, prepared);
  if (plan.connection) machine.startedBy = new WeakRef(plan.connection);
  node.machines.add(machine);
  return machine;
}

/** Keeps the environment where a later spored finds it; see `environmentPath`. */
export async function keepEnvironment(node: Node, id: string, env: Record<string, string>): Promise<void> {
  if (Object.keys(env).length === 0) return;
  await writeFile(environmentPath(node, id), JSON.stringify(env), { mode: 0o600 });
}

/**
 * Waits for the guest's first answer, but no longer than the machine lives.
 * @throws SporeletError with the end of the guest's console when it does not answer
 */
export async function answered<T>(vm: VmmMachine, machine: ManagedMachine, answer: Promise<T>): Promise<T> {
  let ended: string | undefined;
  const end = vm.ended.then(({ reason, detail }) => {
    ended = `the machine ended first (${detail ?? reason})`;
    throw new Error(ended);
  });
  try {
    return await Promise.race([answer, end]);
  } catch (error) {
    const context = { operation: `${machine.record.origin} the machine`, subject: machine.name };
    const ours = SporeletError.from(error, context);
    if (ended === undefined && ours.code !== "deadline_exceeded" && ours.code !== "unavailable") throw ours;
    const console = await tailOfFile(path.join(machine.record.directory, "console.log"), 30).catch(() => "");
    throw new SporeletError({
      ...context,
      code: ended === undefined ? ours.code : "guest_failed",
      reason: ended ?? `its agent did not answer: ${ours.reason}`,
      log: ours.log ?? (console || undefined),
      cause: error,
    });
  } finally {
    end.catch(() => {});
  }
}

/** The guest's own account of its first contact. */
export function guestStages(reply: messages.HelloReply): NonNullable<TimingsRecord["guest"]> {
  return {
    clockMs: reply.clockUs / 1000,
    entropyMs: reply.entropyUs / 1000,
    identityMs: reply.identityUs / 1000,
    networkMs: reply.networkUs / 1000,
    thawMs: reply.thawUs / 1000,
    hooksMs: reply.hooksUs / 1000,
  };
}
