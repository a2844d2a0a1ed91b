import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import type { Context } from "../cli/context.ts";
import type { NodeStopSignature } from "../commands/node.ts";
import { createProgress } from "../output/progress.ts";

/** Longest wait for the end of spored after it agreed to end: it may have a build to clean up. Seconds. */
const endSeconds = 120;

export const action: Action<NodeStopSignature> = async (context, _args, { machines }) => {
  // Stopping the machines needs a spored that knows them; for its own end none is started.
  const node = machines ? await context.node() : await context.runningNode();
  if (node === undefined) {
    context.note(`no spored runs for ${context.home}`);
    return 0;
  }
  using progress = createProgress(context);
  progress.waiting(machines ? "stopping all machines" : "ending spored");
  await node.shutdownNode({ stopMachines: machines }, { signal: context.signal });
  await ended(context);
  progress.end();
  context.note("spored ended");
  return 0;
};

/**
 * Waits until spored is gone and its volume unmounted: it holds a lock (flock(2)) on this file as long as it lives.
 * Whoever stops it may want to move the directory next.
 */
async function ended(context: Context): Promise<void> {
  const lock = path.join(context.home, "spored.lock");
  if (!existsSync(lock)) return;
  const waiting = spawn("flock", ["--wait", String(endSeconds), lock, "true"], {
    stdio: "ignore",
    signal: context.signal,
  });
  const [code] = (await once(waiting, "close").catch((error: NodeJS.ErrnoException) => {
    context.signal.throwIfAborted();
    // Without util-linux there is nothing to wait with.
    if (error.code === "ENOENT") return [0];
    throw error;
  })) as [number];
  if (code === 0) return;
  throw new SporeletError({
    code: "deadline_exceeded",
    operation: "end",
    subject: "spored",
    reason: `it still cleans up after ${endSeconds} s`,
    hint: `see ${path.join(context.home, "spored.log")}`,
  });
}
