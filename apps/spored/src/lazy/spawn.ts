import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { SporeletError } from "@sporelet/errors";
import { processStartTicks } from "@sporelet/host";
import { unlessAborted } from "../together.ts";
import { errorFrom } from "./rpc.ts";
import type { ServerReadiness, ServerSpec } from "./spec.ts";

/** A server that serves. It is no child to wait for: it lives on when spored ends. */
export interface LazyServerProcess {
  pid: number;
  /** Together with the pid it names the process for good. */
  startTicks: number;
}

/** Threads of libuv's pool: one waits for requests, one fills the kernel's cache, the others decode and write. */
const poolThreads = 6;

/**
 * There may be many servers. Frames are short-lived and large: without this they are kept for reuse by each
 * thread's own heap, which costs 35 MB (mallopt(3); docs/design/0007).
 */
const smallHeap = {
  flags: ["--max-semi-space-size=1"],
  environment: { MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072", MALLOC_MMAP_THRESHOLD_: "65536" },
};

/**
 * Starts a server and waits until it serves.
 *
 * @param log path of a file that it may write to
 * @throws what the server says; `cancelled`; no process is left then
 */
export async function startLazyServer(
  spec: ServerSpec,
  log: string,
  signal: AbortSignal,
): Promise<LazyServerProcess> {
  const context = { operation: "start", subject: spec.name };
  const logFd = openSync(log, "a", 0o600);
  const [program, ...args] = [process.execPath, ...smallHeap.flags, ownEntry(), "lazy-server"];
  const child = spawn(program, args, {
    cwd: "/",
    detached: true,
    // Proxies and certificates are looked for in the environment.
    env: { ...process.env, UV_THREADPOOL_SIZE: String(poolThreads), ...smallHeap.environment },
    stdio: ["pipe", "pipe", logFd],
  });
  const { stdin, stdout } = child as ChildProcess & { stdin: Writable; stdout: Readable };
  closeSync(logFd);
  const failed = new Promise<never>((_, reject) => child.once("error", reject));
  try {
    stdin.on("error", () => {});
    stdin.end(JSON.stringify(spec));
    const line = await unlessAborted(Promise.race([firstLine(stdout), failed]), signal);
    if (line === undefined) {
      throw new SporeletError({
        ...context,
        code: "internal",
        reason: "its server ended",
        hint: `see ${log}`,
      });
    }
    const readiness = JSON.parse(line) as ServerReadiness;
    if ("error" in readiness) throw errorFrom(readiness.error);
    const { pid = 0 } = child;
    return { pid, startTicks: (await processStartTicks(pid)) ?? 0 };
  } catch (error) {
    if (child.pid !== undefined && child.exitCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
    }
    throw SporeletError.from(error, context);
  } finally {
    stdout.destroy();
    child.unref();
  }
}

async function firstLine(stream: NodeJS.ReadableStream): Promise<string | undefined> {
  for await (const line of createInterface({ input: stream })) return line;
  return undefined;
}

/** The entry point of this very program, as bundle or as source. */
function ownEntry(): string {
  const here = fileURLToPath(import.meta.url);
  const source = path.join(path.dirname(here), "../main.ts");
  return existsSync(source) ? source : here;
}
