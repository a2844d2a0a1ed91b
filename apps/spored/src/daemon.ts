import { rmSync } from "node:fs";
import { mkdir, open, realpath, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { type NodeRecord, nodeRecordPath, type StartedNode, startTicksOf } from "@sporelet/api";
import { makeRuntimeDirectory } from "@sporelet/host";
import { createActivity } from "./activity.ts";
import { acquireHome } from "./lock.ts";
import { createLog } from "./log.ts";
import { serve } from "./server.ts";
import { nodeRoutes } from "./service.ts";
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
 * Returns at once when another one serves the same home.
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  await mkdir(options.home, { recursive: true, mode: 0o700 });
  const home = await realpath(options.home);
  const acquired = await acquireHome(home);
  if ("other" in acquired) return options.onReady({ ...acquired.other, notices: [] });
  await using _lock = acquired.lock;
  await using logFile = await open(path.join(home, "spored.log"), "a", 0o600);
  const log = createLog((line) => void logFile.appendFile(line));
  const stop = stopSignal();
  using activity = createActivity(options.idleExitMs);
  const runtimeDirectory = await makeRuntimeDirectory(home);
  const socket = path.join(runtimeDirectory, "spored.sock");
  const record: NodeRecord = {
    pid: process.pid,
    startTicks: startTicksOf(process.pid) ?? 0,
    socket,
    version,
  };
  const routes = nodeRoutes({ home, record, end: stop.end });
  {
    await using _server = await serve({ socket, routes, activity, log });
    await writeRecord(home, record);
    log.info("ready", { pid: process.pid, version, socket });
    options.onReady({ ...record, notices: [] });
    await aborted(AbortSignal.any([stop.signal, activity.idle]));
    // First the record, so that whoever looks for a spored from now on starts another one.
    rmSync(nodeRecordPath(home), { force: true });
    log.info("ending", { why: stop.signal.aborted ? String(stop.signal.reason) : "idle" });
  }
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
