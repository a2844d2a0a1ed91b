import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import path from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { type ErrorCode, SporeletError, type SporeletErrorOptions } from "@sporelet/errors";
import { type NodeClient, nodeClient } from "./node-client.ts";
import { locateNode, type NodeRecord } from "./socket.ts";

export interface StartNodeOptions {
  /** Seconds without machines, calls and builds after which spored ends itself. Default: 60; 0: never. */
  idleExitSeconds?: number;
  /** How to start spored. Default: SPORELET_SPORED, else the launcher or source that belongs to this package. */
  command?: string[];
  /** Limit for the start, milliseconds. Default: 120,000 (the first start makes the volume, on a disk that may be busy). */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** A spored that answers, and what it wants a person to know. */
export interface StartedNode extends NodeRecord {
  notices: string[];
}

/** The last thing that spored writes to the pipe it inherits, as one line of JSON, before closing it. */
export type Readiness = { ready: StartedNode } | { error: SporeletErrorOptions };

/** File descriptor of that pipe in spored. */
export const readinessFd = 3;

/**
 * Starts a spored for `home` in the background and waits until it answers. Where one runs already, or two
 * are started at once, the one that serves is returned.
 * @throws what kept spored from starting, with the same code and hint that it gave.
 */
export async function startNode(home: string, options: StartNodeOptions = {}): Promise<StartedNode> {
  const context = { operation: "start spored", subject: `for ${home}` };
  const [program, ...args] = options.command ?? defaultCommand();
  if (program === undefined)
    throw new SporeletError({ ...context, code: "invalid_argument", reason: "no command given" });
  const timeout = AbortSignal.timeout(options.timeoutMs ?? 120_000);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  let log: number;
  try {
    signal.throwIfAborted();
    mkdirSync(home, { recursive: true, mode: 0o700 });
    log = openSync(path.join(home, "spored.log"), "a", 0o600);
  } catch (error) {
    throw SporeletError.from(error, context);
  }
  try {
    const idle = ["--idle-exit", String(options.idleExitSeconds ?? 60)];
    const child = spawn(program, [...args, "--home", home, ...idle, "--readiness-fd", String(readinessFd)], {
      cwd: "/",
      detached: true,
      stdio: ["ignore", log, log, "pipe"],
    });
    const pipe = child.stdio[readinessFd] as Readable;
    const failed = new Promise<never>((_, reject) => child.once("error", reject));
    const abort = () => child.kill("SIGTERM");
    signal.addEventListener("abort", abort, { once: true });
    try {
      const said = await Promise.race([text(pipe), failed]);
      signal.throwIfAborted();
      return await readinessOf(said, child.pid, context, path.join(home, "spored.log"));
    } finally {
      signal.removeEventListener("abort", abort);
      pipe.destroy();
      child.unref();
    }
  } catch (error) {
    throw SporeletError.from(error, context);
  } finally {
    closeSync(log);
  }
}

async function readinessOf(
  said: string,
  pid: number | undefined,
  context: { operation: string; subject: string },
  log: string,
) {
  if (said === "") {
    throw new SporeletError({
      ...context,
      code: "unavailable",
      reason: `it ended before it was ready (pid ${pid})`,
      hint: `see ${log}`,
    });
  }
  const readiness = JSON.parse(said) as Readiness;
  if ("ready" in readiness) return readiness.ready;
  throw new SporeletError({ ...readiness.error, code: readiness.error.code as ErrorCode });
}

/** The launcher beside the bundle that this runs from; or, from source, the daemon's entry point. */
function defaultCommand(): string[] {
  if (process.env.SPORELET_SPORED) return [process.env.SPORELET_SPORED];
  const here = path.dirname(fileURLToPath(import.meta.url));
  const launcher = path.join(here, "spored");
  if (existsSync(launcher)) return [launcher];
  const source = path.join(here, "../../../apps/spored/src/main.ts");
  if (existsSync(source)) return [process.execPath, source];
  throw new SporeletError({
    code: "unsupported",
    operation: "start spored",
    reason: `it is not installed beside ${here}`,
    hint: "set SPORELET_SPORED to its path",
  });
}

export interface ConnectNodeOptions extends StartNodeOptions {
  /** Start one when none runs. Default: true. */
  start?: boolean;
  /** Called with what a freshly started spored wants a person to know. */
  onNotice?: (notice: string) => void;
}

/**
 * A client of the spored of `home`, started when none runs; it has answered once. A spored that ends
 * itself at this very moment, for lack of work, is replaced by a new one.
 */
export async function connectNode(home: string, options: ConnectNodeOptions = {}): Promise<NodeClient> {
  const start = options.start ?? true;
  for (let attempt = 1; ; attempt++) {
    const found = locateNode(home) ?? (start ? await startAndTell(home, options) : undefined);
    if (found === undefined) {
      throw new SporeletError({
        code: "unavailable",
        operation: "reach spored",
        subject: `for ${home}`,
        reason: "none runs",
      });
    }
    try {
      return await answering(found, options.signal);
    } catch (error) {
      const ending = error instanceof SporeletError && error.code === "unavailable";
      if (!ending || !start || attempt === connectAttempts) throw error;
    }
  }
}

/** A spored may be found just before it ends, and so may the one that another client starts meanwhile. */
const connectAttempts = 5;

async function startAndTell(home: string, options: ConnectNodeOptions): Promise<StartedNode> {
  const started = await startNode(home, options);
  for (const notice of started.notices) options.onNotice?.(notice);
  return started;
}

async function answering(record: NodeRecord, signal: AbortSignal | undefined): Promise<NodeClient> {
  const client = nodeClient({ socketPath: record.socket });
  try {
    await client.version({}, { ...(signal && { signal }), timeoutMs: 10_000 });
    return client;
  } catch (error) {
    client[Symbol.dispose]();
    throw error;
  }
}
