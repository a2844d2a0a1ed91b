import { create } from "@bufbuild/protobuf";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { BuildEvent as StepEvent } from "@sporelet/snapshot-builder";
import { type Lease, type StoredSnapshot, standsInFor } from "@sporelet/store";
import { buildNetwork } from "./build-network.ts";
import { loadBuilder } from "./builder.ts";
import type { CallTime } from "./call-time.ts";
import { type GateHost, type Refusal, refused, whyNotResumable } from "./gate.ts";
import { gateHost } from "./gate-host.ts";
import type { Node } from "./node.ts";
import { createShared } from "./shared.ts";

/** A cold boot of the demo takes a minute under emulation; a host with other work to do takes longer. */
const timeoutMs = 300_000;
const holder = "run";

/** A snapshot that this host cannot restore. */
export interface Refused {
  /** As the person wrote it. */
  reference: string;
  snapshot: StoredSnapshot;
  refusal: Refusal;
  host: GateHost;
}

export interface StandInOptions {
  onEvent(event: api.RunEvent["event"]): void;
  time: CallTime;
  signal: AbortSignal;
}

export interface StandIn {
  snapshot: StoredSnapshot;
  lease: Lease;
}

const boots = createShared<StepEvent, StoredSnapshot>();

/**
 * "Boot once, freeze here": the snapshot of this host that stands in for one whose state it cannot restore. It is
 * looked for in the store, and made when there is none yet: the refused one's kernel and disk are booted, and
 * the machine is frozen once its services are up. Callers that want it at the same time share one boot.
 *
 * @throws SporeletError `incompatible` or `unsupported` when nothing can be booted either, with every reason;
 *   what `bootAndFreeze` throws
 */
export async function standIn(node: Node, wanted: Refused, options: StandInOptions): Promise<StandIn> {
  const { reference, snapshot, refusal, host } = wanted;
  const known = await find(node, snapshot);
  if (known !== undefined) {
    node.log.info("stand-in found", { snapshot: reference, digest: known.snapshot.digest });
    return known;
  }
  if (!refusal.bootable) throw refused(reference, refusal, host);
  const { onEvent } = options;
  for (const value of explanation(wanted)) onEvent({ case: "notice", value });
  const signal = AbortSignal.any([options.signal, options.time.atMost(timeoutMs), node.shutdown]);
  // Whatever is used from here on stays, the new snapshot before anybody holds it included.
  using _lease = node.store.lease(undefined, holder);
  try {
    const { digest } = await boots(
      `${node.store.root} ${snapshot.digest}`,
      async (sharer) => (await find(node, snapshot))?.snapshot ?? (await make(node, wanted, sharer)),
      {
        signal,
        onEvent(event) {
          if (event.case === "step") {
            onEvent({ case: "step", value: create(api.BuildStepSchema, { ...event }) });
          }
        },
      },
    );
    return await node.store.acquire(digest, holder);
  } catch (error) {
    // Whoever called it off knows why.
    if (options.signal.aborted || isCancelled(signal)) throw error;
    throw bootFailed(error, wanted);
  }
}

function explanation({ reference, refusal, host }: Refused): string[] {
  const [accelerator] = host.probe.accelerators;
  const patience = accelerator === "tcg" ? " Under software emulation that takes a minute or more." : "";
  return [
    `the frozen state of ${reference} cannot be restored on this host: ${refusal.reason}`,
    `its kernel and disk are booted instead, once, and frozen here for the next time; what was in its memory alone is not there.${patience}`,
  ];
}

/** The newest stand-in that this host can restore. */
async function find(node: Node, { digest }: StoredSnapshot): Promise<StandIn | undefined> {
  const all = await node.store.list(() => {});
  for (const { config, files, directory, digest: candidate } of all) {
    if ((await standsInFor(directory)) !== digest) continue;
    const host = await gateHost(node, { accelerator: config.shape.accelerator, guest: files });
    if (whyNotResumable(config, host) !== undefined) continue;
    try {
      const found = await node.store.acquire(candidate, holder);
      await node.store.check(found.snapshot).catch((error: unknown) => {
        found.lease[Symbol.dispose]();
        throw error;
      });
      return found;
    } catch (error) {
      // Removed meanwhile, or damaged: another one does as well, and else a new one is made.
      node.log.error("stand-in not usable", error, { digest: candidate });
    }
  }
  return undefined;
}

async function make(
  node: Node,
  { reference, snapshot, refusal }: Refused,
  { onEvent, signal }: { onEvent: (event: StepEvent) => void; signal: AbortSignal },
): Promise<StoredSnapshot> {
  const { bootAndFreeze } = await loadBuilder();
  const { store, vmm, runtimeDirectory } = node;
  const { kernel, initramfs } = snapshot.files;
  const probe = await (kernel && initramfs ? node.probes.best({ kernel, initramfs }) : node.probes.get());
  const [accelerator] = probe.accelerators;
  if (accelerator === undefined) throw new Error(`${probe.driver} cannot run guests on this host any more`);
  const made = await bootAndFreeze({
    ...{ snapshot, why: refusal.reason, store, vmm, probe, accelerator, runtimeDirectory, signal, onEvent },
    network: () => buildNetwork(node, signal),
  });
  node.log.info("stand-in made", { snapshot: reference, digest: made.digest, why: refusal.reason });
  return made;
}

/** Aborted by the caller or the end of spored, not by the time that is over. */
function isCancelled({ aborted, reason }: AbortSignal): boolean {
  return aborted && !(reason instanceof DOMException && reason.name === "TimeoutError");
}

function bootFailed(error: unknown, { reference, refusal }: Refused): SporeletError {
  const context = { operation: "boot the kernel and disk of", subject: reference };
  const ours = SporeletError.from(error, context);
  return new SporeletError({
    ...context,
    code: ours.code,
    reason: `${ours.reason}. That was tried because its frozen state cannot be restored on this host: ${refusal.reason}`,
    hint:
      ours.hint ??
      (ours.code === "deadline_exceeded"
        ? `give it more time: sporectl run --timeout 15m ${reference}`
        : undefined),
    log: ours.log,
    cause: error,
  });
}
