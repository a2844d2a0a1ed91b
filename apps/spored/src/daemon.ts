import { rmSync } from "node:fs";
import { mkdir, open, realpath, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { type NodeRecord, nodeRecordPath, type StartedNode, startTicksOf } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { makeRuntimeDirectory, openVolume, ownerOf, tscKhz } from "@sporelet/host";
import { openStore } from "@sporelet/store";
import { createQemu } from "@sporelet/vmm";
import { type Activity, createActivity } from "./activity.ts";
import { adoptAll } from "./adopt.ts";
import { watchDefects } from "./defects.ts";
import { gateHost } from "./gate-host.ts";
import { createLazy } from "./lazy/lazy.ts";
import { acquireHome } from "./lock.ts";
import { createLog, type Log } from "./log.ts";
import { createMachines } from "./machines.ts";
import { createMetrics } from "./metrics.ts";
import { createNetworks } from "./network.ts";
import type { Node } from "./node.ts";
import { createProbes } from "./probes.ts";
import { createResources } from "./resources.ts";
import { startsAtOnce } from "./runs.ts";
import { serve } from "./server.ts";
import { nodeRoutes } from "./service.ts";
import { createSettling } from "./settling.ts";
import { createSlots } from "./slots/slots.ts";
import { createGate } from "./together.ts";
import { keepTrimmed } from "./trimming.ts";
import { version } from "./version.ts";

export interface DaemonOptions {
  /** SPORELET_HOME; made when it is not there. */
  home: string;
  /** End after so long without machines, calls and builds; 0: never. */
  idleExitMs: number;
  /** Called once this spored, or another one that was there first, answers. */
  onReady: (node: StartedNode) => void;
}

/**
 * Runs a spored until it is told to end (SIGTERM, SIGINT, ShutdownNode) or has been idle long enough.
 * Returns at once when another one serves the same home. Machines go on when it ends, and with them the
 * volume that holds their files.
 *
 * @throws SporeletError `internal` when it ended for a defect, see `watchDefects`
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  await mkdir(options.home, { recursive: true, mode: 0o700 });
  const home = await realpath(options.home);
  const acquired = await acquireHome(home);
  if ("other" in acquired) return options.onReady({ ...acquired.other, notices: [] });
  await using _lock = acquired.lock;
  await using logFile = await open(path.join(home, "spored.log"), "a", 0o600);
  // On a full disk lines are lost, and nothing else.
  const log = createLog((line) => void logFile.appendFile(line).catch(() => {}));
  const stop = stopSignal();
  using defects = watchDefects({ log, end: stop.end });
  using activity = createActivity(options.idleExitMs);
  using opening = activity.begin(); // However long that takes, it is no idleness.
  const ended = AbortSignal.any([stop.signal, activity.idle]);
  await using opened = await openNode(home, { activity, log, shutdown: ended });
  const { node, notices } = opened;
  const settling = createSettling();
  const socket = path.join(node.runtimeDirectory, "spored.sock");
  const record: NodeRecord = {
    pid: process.pid,
    startTicks: startTicksOf(process.pid) ?? 0,
    socket,
    version,
  };
  const routes = nodeRoutes({ node, settling, end: stop.end });
  await using _server = await serve({ socket, routes, activity, settling, log });
  if (!ended.aborted) {
    await writeRecord(home, record);
    log.info("ready", { pid: process.pid, version, socket });
    options.onReady({ ...record, notices });
    opening[Symbol.dispose]();
    await aborted(ended);
  }
  // First the record, so that whoever looks for a spored from now on starts another one.
  rmSync(nodeRecordPath(home), { force: true });
  log.info("ending", { why: stop.signal.aborted ? String(stop.signal.reason) : "idle" });
  if (defects.seen) {
    throw new SporeletError({
      ...{ code: "internal", operation: "go on serving", subject: home },
      reason: "spored has met a defect of its own",
      hint: `see ${path.join(home, "spored.log")}; machines go on, and another spored takes them over`,
    });
  }
}

/** Opens what a node consists of, in order, and takes over the machines of an earlier spored. */
async function openNode(home: string, options: { activity: Activity; log: Log; shutdown: AbortSignal }) {
  await using undo = new AsyncDisposableStack();
  const machines = createMachines();
  tscKhz().catch(() => {}); // It takes its time beside everything else.
  const volume = await openVolume({ home, signal: options.shutdown });
  undo.defer(async () => {
    const live = [...machines].some((machine) => machine.live !== undefined);
    if (!live) await volume.close();
  });
  undo.use(keepTrimmed(volume, options.log));
  const runtimeDirectory = await makeRuntimeDirectory(home);
  const store = await openStore({ root: volume.path });
  // SPORELET_QEMU names another QEMU than the one in PATH.
  const { SPORELET_QEMU: binary } = process.env;
  const vmm = createQemu(binary ? { binary } : {});
  const networks = createNetworks({
    owner: ownerOf(home),
    onError: (error) => options.log.error("networks kept ready not removed", error),
  });
  undo.use(networks);
  const parts = {
    ...options,
    ...{ home, runtimeDirectory, store, vmm, networks, machines },
    resources: createResources({ owner: ownerOf(home), log: options.log }),
    probes: createProbes(vmm, path.join(store.root, "cache")),
    starts: createGate(startsAtOnce),
    metrics: createMetrics(),
  };
  const node: Node = { ...parts, lazy: createLazy(parts), slots: createSlots(parts) };
  undo.use(node.lazy);
  undo.use(node.slots);
  await adoptAll(node);
  void node.slots.restore(node.store.resolve);
  // Asked now so that the first resume need not; an error is met again there.
  gateHost(node).catch(() => {});
  const notices = volume.notice === undefined ? [] : [volume.notice];
  for (const notice of notices) options.log.info("volume", { notice });
  const owned = undo.move();
  return { node, notices, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** No fsync: the record means nothing after a crash of the host. */
async function writeRecord(home: string, record: NodeRecord): Promise<void> {
  const target = nodeRecordPath(home);
  await writeFile(`${target}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  await rename(`${target}.new`, target);
}

function stopSignal(): { signal: AbortSignal; end: (why: string) => void } {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => controller.abort(name));
  // Whoever started us from a terminal may close it.
  process.on("SIGHUP", () => {});
  return { signal: controller.signal, end: (why) => controller.abort(why) };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
