/** "Boot once, freeze here": a snapshot whose state cannot be restored on this host, made anew from its disk. */
import { join } from "node:path";
import { agentGuest, isWarmup, preheat, type Warmup } from "@sporelet/compose-preheater";
import { SporeletError } from "@sporelet/errors";
import { cloneFile } from "@sporelet/host";
import { markStandIn, type SnapshotDraft, type Store, type StoredSnapshot } from "@sporelet/store";
import { type Accelerator, type Probe, stateOrigin, type Vmm } from "@sporelet/vmm";
import { type OnBuildEvent, startStep, stepsOfPreheat } from "./events.ts";
import { type Frozen, freeze } from "./freeze.ts";
import { composeCommand } from "./rootfs/content.ts";
import { bootGuest, type GuestMachine } from "./vm/guest-machine.ts";
import type { NetworkLease } from "./vm/network.ts";

export interface BootAndFreezeOptions {
  /** Its kernel, initramfs and disk are used, and none of them is changed. */
  snapshot: StoredSnapshot;
  /** Why its state cannot be restored, for people; becomes a part of the recipe. */
  why: string;
  store: Store;
  vmm: Vmm;
  probe: Probe;
  /** One that works on this host. */
  accelerator: Accelerator;
  /** Called once if the machine had a network; it gets one of this kind. */
  network: () => Promise<NetworkLease>;
  /** Existing directory for sockets, with a short path. */
  runtimeDirectory: string;
  /** Of all of it; nothing in it has a limit of its own. */
  signal: AbortSignal;
  onEvent: OnBuildEvent;
}

/** Longer than any signal lets it take. */
const unlimitedMs = 24 * 60 * 60 * 1000;
const defaultHookTimeoutMs = 30_000;

/**
 * Boots a snapshot's kernel and a clone of its disk, waits until all its services are up and warm, and freezes
 * the machine as a snapshot without a name and without a parent, which is marked to stand in for the other, and
 * whose recipe says why. What had only been in that one's memory is not in it. When it fails nothing is left.
 *
 * @throws SporeletError `failed_precondition` without a kernel, `guest_failed` with the log that explains it,
 *   `resource_exhausted`, `cancelled`
 */
export async function bootAndFreeze(options: BootAndFreezeOptions): Promise<StoredSnapshot> {
  const { snapshot, store, probe, accelerator, signal, onEvent } = options;
  const { config, digest } = snapshot;
  await using draft = await store.newSnapshot();
  const warmup = await warmupOf(store, snapshot);
  const vmm = await stateOrigin(probe, accelerator);
  const { services, shape, agent, pauseMs } = await run(options, draft, warmup);
  const { formatVersion: _, created: _created, parent: _parent, files: _files, ...kept } = config;
  const step = startStep("store", onEvent);
  await markStandIn(draft.directory, digest);
  const stored = await draft.commit(
    {
      ...{ ...kept, vmm, shape, agent, services, pauseMs },
      recipe: { from: digest, why: options.why, ...(warmup.length > 0 && { warmup }) },
    },
    undefined,
    signal,
  );
  step.done(stored.digest);
  return stored;
}

/** Fills the draft with the files of the frozen machine, which is gone afterwards. */
async function run(
  options: BootAndFreezeOptions,
  draft: SnapshotDraft,
  warmup: readonly Warmup[],
): Promise<Frozen & { services: string[] }> {
  const { snapshot, accelerator, signal, onEvent } = options;
  const { config, files } = snapshot;
  const { cpus, memoryBytes, network: kind } = config.shape;
  const { hookTimeoutMs = defaultHookTimeoutMs } = config;
  const boot = startStep("boot", onEvent);
  const disk = join(draft.directory, "disk");
  if (files.disk !== undefined) await cloneFile(files.disk, disk, { signal });
  const network = kind === "none" ? undefined : await options.network();
  await using _network = { [Symbol.asyncDispose]: async () => network?.release() };
  const layer0 = { ...kernelOf(snapshot), arguments: config.kernel.arguments };
  await using guest = await bootGuest({
    vmm: options.vmm,
    layer0,
    disks: files.disk === undefined ? [] : [{ path: disk }],
    shape: { cpus, memoryBytes, accelerator },
    ...(network && { network }),
    memory: join(draft.directory, "memory"),
    scratch: draft.directory,
    runtimeDirectory: options.runtimeDirectory,
    hookTimeoutMs,
    signal,
  });
  await servicesReady(guest, (name, share) => boot.progress(share, `waiting for ${name}`), signal);
  boot.done();
  const services =
    config.compose === undefined
      ? config.services
      : await projectUp(guest, config.compose.project, warmup, { signal, onEvent });
  return { services, ...(await freeze({ guest, layer0, draft, hookTimeoutMs, signal, onEvent })) };
}

/** The guest starts its services itself, one after the other; a project's containers with the last of them. */
async function servicesReady(
  guest: GuestMachine,
  onWait: (name: string, share: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const names = await guest.services(signal);
  for (const [index, name] of names.entries()) {
    onWait(name, (index + 1) / (names.length + 1));
    await guest.serviceReady(name, signal);
  }
}

async function projectUp(
  guest: GuestMachine,
  project: string,
  warmup: readonly Warmup[],
  { signal, onEvent }: Pick<BootAndFreezeOptions, "signal" | "onEvent">,
): Promise<string[]> {
  const { services } = await preheat({
    guest: agentGuest(guest.client),
    project,
    compose: [composeCommand],
    started: true,
    warmup,
    timeouts: { upMs: unlimitedMs, healthyMs: unlimitedMs },
    signal,
    console: guest.console,
    onEvent: stepsOfPreheat(onEvent),
  });
  return services;
}

function kernelOf({ files: { kernel, initramfs }, digest }: StoredSnapshot) {
  if (kernel !== undefined && initramfs !== undefined) return { kernel, initramfs };
  throw new SporeletError({
    code: "failed_precondition",
    operation: "boot",
    subject: digest,
    reason: "it has no kernel and initramfs, only a frozen state",
  });
}

/** What warmed the snapshot, or the one that it comes from: a warm-up is told by the recipe of a build. */
async function warmupOf(store: Store, snapshot: StoredSnapshot): Promise<Warmup[]> {
  for (let at: StoredSnapshot | undefined = snapshot; at !== undefined; at = await parentOf(store, at)) {
    const { recipe } = at.config;
    const { warmup } = typeof recipe === "object" && recipe !== null ? (recipe as { warmup?: unknown }) : {};
    if (Array.isArray(warmup)) return warmup.filter(isWarmup);
  }
  return [];
}

async function parentOf(store: Store, { config }: StoredSnapshot): Promise<StoredSnapshot | undefined> {
  if (config.parent === undefined) return undefined;
  // It need not be here, and is of use only.
  return await store.resolve(config.parent).catch(() => undefined);
}
