/** Builds snapshots: Layer 0 alone, or Layer 1 with a Compose project in it. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { SporeletError } from "@sporelet/errors";
import {
  cacheKey,
  type SnapshotDescription,
  type SnapshotDraft,
  type Store,
  type StoredSnapshot,
} from "@sporelet/store";
import { type Accelerator, type Probe, type StateOrigin, stateOrigin, type Vmm } from "@sporelet/vmm";
import { type OnBuildEvent, startStep } from "./events.ts";
import { type Frozen, freeze } from "./freeze.ts";
import { type BuiltImage, buildImage } from "./images/build.ts";
import { buildLayer0, type Layer0 } from "./layer0/build.ts";
import { buildImagesDisk, imagesDiskKey } from "./layer1/images-disk.ts";
import { warmAndFreeze } from "./layer1/warm.ts";
import { loadProject, type Project } from "./project/load.ts";
import { buildRootfs, rootfsKey } from "./rootfs/build.ts";
import { together } from "./together.ts";
import { bootGuest, kernelArguments } from "./vm/guest-machine.ts";
import type { NetworkLease } from "./vm/network.ts";
import { type Recorder, recordWorkingSet } from "./working-set/record.ts";

export interface BuildOptions {
  /** Directory or file of a project; for Layer 0 only named as the source. */
  path: string;
  /** `NAME[:TAG]` that the snapshot gets. Default: it is reachable by its digest alone. */
  tag?: string | undefined;
  /** Last layer to build. Default: 1. */
  layer?: 0 | 1;
  /** Build every stage again. Default: false. */
  noCache?: boolean;
  store: Store;
  vmm: Vmm;
  /** What `vmm.probe` said; its first accelerator is used. */
  probe: Probe;
  /** Called once for each machine that has a network. */
  network: () => Promise<NetworkLease>;
  /** Records working sets. Default: none is recorded. */
  recorder?: Recorder | undefined;
  /** Existing directory for sockets, with a short path. */
  runtimeDirectory: string;
  signal?: AbortSignal | undefined;
  onEvent?: OnBuildEvent;
}

/** Raised when snapshots come out differently without any of their inputs being different. */
const format = 3;
const layer0MemoryBytes = 256 * 1024 ** 2;

/**
 * Builds a snapshot; every stage whose inputs have not changed is taken from the cache. When it fails or is
 * aborted nothing is left but finished stages, and for a guest that failed its logs in `<store>/logs/`.
 *
 * @throws SporeletError `invalid_argument` or `not_found` for what is wrong with the project,
 *   `guest_failed` with the log that explains it, `resource_exhausted`, `unsupported`, `cancelled`
 */
export async function buildSnapshot(options: BuildOptions): Promise<StoredSnapshot> {
  const signal = options.signal ?? new AbortController().signal;
  const context = { operation: "build", subject: options.path };
  try {
    return options.layer === 0
      ? await layer0Snapshot(options, signal)
      : await layer1Snapshot(options, signal);
  } catch (error) {
    throw SporeletError.from(signal.aborted ? signal.reason : error, context);
  }
}

async function layer0Snapshot(options: BuildOptions, signal: AbortSignal): Promise<StoredSnapshot> {
  const { store, onEvent = () => {} } = options;
  const accelerator = acceleratorOf(options.probe);
  const layer0 = await buildLayer0({ store, noCache: options.noCache ?? false, signal, onEvent });
  const key = cacheKey("layer0", format, layer0.key, vmmOf(options.probe), layer0MemoryBytes);
  return reuseOr(options, key, signal, async () => {
    await using draft = await store.newSnapshot();
    const frozen = await bootAndFreezeLayer0(options, layer0, draft, { accelerator, signal });
    const vmm = await stateOrigin(options.probe, accelerator);
    return await commit(options, draft, { ...describe(options, vmm, layer0, frozen), layer: 0 }, signal);
  });
}

/** Fills the draft with the frozen machine's files; what else that had is gone afterwards. */
async function bootAndFreezeLayer0(
  options: BuildOptions,
  layer0: Layer0,
  draft: SnapshotDraft,
  { accelerator, signal }: { accelerator: Accelerator; signal: AbortSignal },
): Promise<Frozen> {
  const { onEvent = () => {} } = options;
  const boot = startStep("boot", onEvent);
  const network = await options.network();
  await using _network = { [Symbol.asyncDispose]: () => network.release() };
  await using guest = await bootGuest({
    vmm: options.vmm,
    layer0,
    disks: [],
    shape: { cpus: 1, memoryBytes: layer0MemoryBytes, accelerator },
    network,
    memory: join(draft.directory, "memory"),
    scratch: draft.directory,
    runtimeDirectory: options.runtimeDirectory,
    signal,
  });
  boot.done();
  const frozen = await freeze({ guest, layer0, draft, hookTimeoutMs: 0, signal, onEvent });
  const { recorder, vmm, runtimeDirectory } = options;
  await recordWorkingSet({
    ...{ recorder, vmm, frozen, draft, network, runtimeDirectory, signal, onEvent },
    ...{ kernelArguments: kernelArguments(layer0, 0), ports: [], warmup: [], hookTimeoutMs: 0 },
  });
  return frozen;
}

async function layer1Snapshot(options: BuildOptions, signal: AbortSignal): Promise<StoredSnapshot> {
  const { store, vmm, onEvent = () => {} } = options;
  const accelerator = acceleratorOf(options.probe);
  const project = await loadProject(options.path);
  const layer0 = await buildLayer0({ store, noCache: options.noCache ?? false, signal, onEvent });
  const disk = await imagesDisk(options, project, layer0, accelerator, signal);
  const key = warmKey(disk.key, layer0, project, options.probe);
  return reuseOr(options, key, signal, async () => {
    await using draft = await store.newSnapshot();
    const logs = join(store.root, "logs", key.slice(0, 12));
    await rm(logs, { recursive: true, force: true });
    const warmed = await warmAndFreeze({
      project,
      vmm,
      accelerator,
      layer0,
      disk: disk.path,
      draft,
      network: options.network,
      recorder: options.recorder,
      runtimeDirectory: options.runtimeDirectory,
      keepLogs: (texts) => keepLogs(logs, texts),
      signal,
      onEvent,
    });
    const { config, compose } = project;
    const description: SnapshotDescription = {
      ...describe(options, await stateOrigin(options.probe, accelerator), layer0, warmed),
      layer: 1,
      ports: (config.ports ?? compose.ports).map((guest) => ({ guest })),
      services: warmed.services,
      compose: { project: project.name, file: compose.path },
      hookTimeoutMs: config.timeouts.hookMs,
      recipe: recipeOf(project, key),
    };
    return await commit(options, draft, description, signal);
  });
}

/** Root file system and images are made side by side, and then put together by dockerd in a machine. */
async function imagesDisk(
  options: BuildOptions,
  project: Project,
  layer0: Layer0,
  accelerator: Accelerator,
  buildSignal: AbortSignal,
): Promise<{ path: string; key: string }> {
  const { store, vmm, noCache: refresh = false, onEvent = () => {} } = options;
  const { diskBytes } = project.config.machine;
  const rootfsStep = startStep("rootfs", onEvent);
  const imagesStep = startStep("images", onEvent);
  const rootfsPart = rootfsKey(layer0.release);
  const [rootfs, images] = await together(buildSignal, [
    async (signal: AbortSignal) => {
      const entry = await store.cache.getOrCreate(
        "rootfs",
        rootfsPart,
        (directory) => buildRootfs(directory, { layer0, step: rootfsStep, signal }),
        { signal, refresh },
      );
      rootfsStep[entry.cached ? "cached" : "done"]();
      return entry;
    },
    async (signal: AbortSignal) => {
      const built: BuiltImage[] = [];
      for (const [index, image] of project.images.entries()) {
        const share = 0.2 / project.images.length;
        built.push(
          await buildImage(image, {
            cache: store.cache,
            projectDirectory: project.directory,
            refresh,
            signal,
            onLine: imagesStep.log,
            onProgress: (fraction, detail) => imagesStep.progress((index + fraction) * share, detail),
          }),
        );
      }
      return built;
    },
  ] as const);
  const key = imagesDiskKey(rootfsPart, diskBytes, images);
  const entry = await store.cache.getOrCreate(
    "images",
    key,
    (directory) =>
      buildImagesDisk(directory, {
        vmm,
        accelerator,
        layer0,
        rootfs: join(rootfs.directory, "disk"),
        diskBytes,
        images,
        runtimeDirectory: options.runtimeDirectory,
        step: imagesStep,
        signal: buildSignal,
      }),
    { signal: buildSignal, refresh: refresh || !rootfs.cached },
  );
  const names = images.map(({ name }) => name).join(", ");
  imagesStep[entry.cached ? "cached" : "done"](names);
  return { path: join(entry.directory, "disk"), key };
}

/** All that a snapshot of a project depends on, beside its disk: this is what a changed Compose file changes. */
export function warmKey(disk: string, layer0: Pick<Layer0, "key">, project: Project, probe: Probe): string {
  const { machine, warmup, hooks, ports, timeouts } = project.config;
  return cacheKey("warm", format, disk, layer0.key, vmmOf(probe), {
    project: project.name,
    compose: project.compose.text,
    files: project.files.map((file) => ({ ...file })),
    cpus: machine.cpus,
    memoryBytes: machine.memoryBytes,
    warmup: warmup.map((one) => ({ ...one })),
    hooks,
    hookMs: timeouts.hookMs,
    ports: ports ?? null,
  });
}

/** The snapshot that an earlier build made of the same things, or a new one. */
async function reuseOr(
  options: BuildOptions,
  key: string,
  signal: AbortSignal,
  create: () => Promise<StoredSnapshot>,
): Promise<StoredSnapshot> {
  const { store, tag, noCache = false, onEvent = () => {} } = options;
  const known = await knownSnapshot(store, key);
  if (known !== undefined && !noCache) {
    startStep("store", onEvent).cached(known.digest);
    return tag === undefined ? known : store.tag(known.digest, tag);
  }
  const snapshot = await create();
  await store.cache.getOrCreate(
    "snapshot",
    key,
    (directory) => writeFile(join(directory, "digest"), snapshot.digest),
    { signal, refresh: true },
  );
  return snapshot;
}

/** The cache remembers digests; the snapshot itself may have been removed, or damaged, since. */
async function knownSnapshot(store: Store, key: string): Promise<StoredSnapshot | undefined> {
  try {
    const digest = await readFile(join(store.root, "cache", "snapshot", key, "digest"), "utf8");
    const snapshot = await store.resolve(digest);
    await store.check(snapshot);
    return snapshot;
  } catch {
    return undefined;
  }
}

async function commit(
  { tag, onEvent = () => {} }: BuildOptions,
  draft: Awaited<ReturnType<Store["newSnapshot"]>>,
  description: SnapshotDescription,
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  const step = startStep("store", onEvent);
  const snapshot = await draft.commit(description, tag, signal);
  step.done(snapshot.digest);
  return snapshot;
}

function describe(
  options: BuildOptions,
  vmm: StateOrigin,
  layer0: Layer0,
  frozen: Frozen,
): SnapshotDescription {
  return {
    layer: 0,
    source: resolve(options.path),
    vmm,
    shape: frozen.shape,
    kernel: { release: layer0.release, arguments: kernelArguments(layer0, frozen.shape.disks) },
    agent: frozen.agent,
    ports: [],
    services: [],
    pauseMs: frozen.pauseMs,
    recipe: null,
  };
}

function recipeOf(project: Project, key: string): unknown {
  return {
    key,
    project: project.name,
    compose: project.compose.text,
    machine: project.config.machine,
    images: project.images,
    warmup: project.config.warmup,
  };
}

function vmmOf(probe: Probe): { driver: string; version: string; accelerator: Accelerator } {
  return { driver: probe.driver, version: probe.version ?? "", accelerator: acceleratorOf(probe) };
}

function acceleratorOf(probe: Probe): Accelerator {
  const [accelerator] = probe.accelerators;
  if (accelerator !== undefined) return accelerator;
  const [problem] = probe.problems;
  throw new SporeletError({
    code: "unsupported",
    operation: "start machines with",
    subject: probe.driver,
    reason: problem?.finding ?? "it has no usable accelerator",
    hint: problem?.remedy ?? "run: sporectl doctor",
  });
}

async function keepLogs(directory: string, texts: Record<string, string>): Promise<string> {
  await mkdir(directory, { recursive: true });
  for (const [name, text] of Object.entries(texts)) {
    if (text !== "") await writeFile(join(directory, name.replaceAll("/", "_")), text);
  }
  return directory;
}
