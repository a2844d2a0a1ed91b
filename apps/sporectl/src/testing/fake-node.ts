import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http2 from "node:http2";
import os from "node:os";
import path from "node:path";
import type { ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { node, nodeRecordPath, startTicksOf, toConnectError } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { fakeCache } from "./fake-cache.ts";
import { createFakeData, type FakeData } from "./fake-data.ts";
import { fakeExec, fakeFiles } from "./fake-guest.ts";
import { fakeSlots } from "./fake-slots.ts";
import { fakeTransfers } from "./fake-transfers.ts";

/** A spored without machines, in this process: the whole node API on a Unix socket, found as a real one is. */
export interface FakeNode extends AsyncDisposable {
  /** For SPORELET_HOME. */
  home: string;
  /** The root directory of every fake guest. */
  guestRoot: string;
  data: FakeData;
  /** Names of the calls that were cancelled, and of those that waited for the clean-up. */
  seen: string[];
}

/** `exec` runs programs on this host; files are those below `guestRoot`. */
export async function startFakeNode(): Promise<FakeNode> {
  const home = await mkdtemp(path.join(os.tmpdir(), "sporectl-"));
  const guestRoot = await mkdtemp(path.join(os.tmpdir(), "sporectl-guest-"));
  const data = createFakeData();
  const seen: string[] = [];
  const shutdown = new AbortController();
  const handler = connectNodeAdapter({
    shutdownSignal: shutdown.signal,
    routes: (router) => router.service(node.NodeService, service(data, guestRoot, home, seen)),
    interceptors: [
      (next) => async (request) => {
        const context = { operation: `serve ${request.method.name}` };
        try {
          const response = await next(request);
          if (!response.stream) return response;
          return { ...response, message: converted(response.message, context) };
        } catch (error) {
          throw toConnectError(error, context);
        }
      },
    ],
  });
  const server = http2.createServer(handler);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  const socket = path.join(home, "spored.sock");
  server.listen(socket);
  await once(server, "listening");
  const record = { pid: process.pid, startTicks: startTicksOf(process.pid), socket, version: "0.1.0" };
  await writeFile(nodeRecordPath(home), JSON.stringify(record));
  return {
    home,
    guestRoot,
    data,
    seen,
    async [Symbol.asyncDispose]() {
      shutdown.abort();
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, "close");
      await rm(home, { recursive: true });
      await rm(guestRoot, { recursive: true });
    },
  };
}

async function* converted<T>(messages: AsyncIterable<T>, context: { operation: string }): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(error, context);
  }
}

function service(
  data: FakeData,
  guestRoot: string,
  home: string,
  seen: string[],
): Partial<ServiceImpl<typeof node.NodeService>> {
  /** Never goes on by itself: for what the caller cancels. */
  const untilCancelled = async (name: string, signal: AbortSignal) => {
    if (!signal.aborted) await once(signal, "abort");
    seen.push(`${name} cancelled`);
    signal.throwIfAborted();
  };
  /** Started before their call was cancelled, whose caller does not know of them yet. */
  const late: string[] = [];
  return {
    version: () => ({ version: "0.1.0", pid: 4711, home }),
    shutdownNode: ({ stopMachines }) => {
      seen.push(stopMachines ? "shutdown with machines" : "shutdown");
      return {};
    },
    settle: () => {
      seen.push("settled");
      return { machines: late.splice(0) };
    },
    doctor: () => ({ checks: data.checks }),
    async *build(request, { signal }) {
      for (const event of data.buildEvents) yield { event };
      if (request.tag === "slow") await untilCancelled("build", signal);
      if (request.tag === "broken") throw data.buildFailure;
      yield { event: { case: "result" as const, value: data.snapshot("hello:latest") } };
    },
    async *run(request, { signal }) {
      if (request.snapshot === "slow") await untilCancelled("run", signal);
      if (request.snapshot === "late") {
        late.push(...[0, 1].map((index) => data.start(request, index).id ?? ""));
        await untilCancelled("run", signal);
      }
      if (request.snapshot === "broken") throw data.resumeFailure;
      data.snapshot(request.snapshot);
      for (let i = 0; i < (request.count || 1); i++)
        yield { event: { case: "ready" as const, value: data.start(request, i) } };
    },
    async *boot(request) {
      data.snapshot(request.snapshot);
      yield { event: { case: "notice" as const, value: "software emulation: the boot takes a while" } };
      yield { event: { case: "ready" as const, value: data.start({ ...request, count: 1 }, 0) } };
    },
    async *fork(request) {
      const { snapshot = "", state } = data.machine(request.machine);
      if (state !== "running") {
        throw new SporeletError({
          code: "failed_precondition",
          operation: "fork",
          subject: request.machine,
          reason: `it is ${state}`,
          hint: `sporectl unpause ${request.machine}`,
        });
      }
      const { digest = "" } = data.snapshot("0badcafe1234");
      yield { event: { case: "forked" as const, value: { digest, pauseMs: 21.5 } } };
      for (let i = 0; i < (request.count || 1); i++)
        yield { event: { case: "ready" as const, value: data.start({ ...request, snapshot }, i) } };
    },
    listMachines: () => ({ machines: data.machines }),
    inspectMachine: ({ machine }) => data.machine(machine),
    pause: ({ machine }) => data.transition(machine, "running", "paused", "pause"),
    unpause: ({ machine }) => data.transition(machine, "paused", "running", "unpause"),
    suspend: ({ machine }) => data.transition(machine, "running", "suspended", "suspend"),
    wake: ({ machine }) => data.transition(machine, "suspended", "running", "wake"),
    stop: ({ machine }) => Object.assign(data.machine(machine), { state: "stopped" }),
    removeMachine: ({ machine, force }) => {
      data.remove(machine, force);
      return {};
    },
    async *stats({ machines, intervalMs }, { signal }) {
      yield { machines: data.stats(machines) };
      if (intervalMs === 0) return;
      yield { machines: data.stats(machines) };
      await untilCancelled("stats", signal);
    },
    exec: fakeExec(data, seen),
    ...fakeFiles(guestRoot, data),
    ...fakeTransfers(data),
    ...fakeCache(data),
    ...fakeSlots(data),
    async *logs({ machine, source, follow, tail }, { signal }) {
      data.machine(machine);
      const lines = data.logLines(source).slice(tail === 0 ? 0 : -tail);
      yield { data: new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")) };
      if (follow) await untilCancelled("logs", signal);
    },
    createSnapshot: ({ machine, tag, force }) => {
      data.machine(machine);
      if (tag === "hello:latest" && !force) {
        throw new SporeletError({
          code: "already_exists",
          operation: "create the snapshot",
          subject: tag,
          reason: "another snapshot has this name",
          hint: "--force moves the name",
        });
      }
      const own = { memoryOwnBytes: 12n << 20n, diskOwnBytes: 3n << 20n };
      return { ...data.snapshot("hello:latest"), ...own, tags: [tag], pauseMs: 142 };
    },
    listSnapshots: () => ({ snapshots: data.snapshots }),
    inspectSnapshot: ({ snapshot }) => data.snapshot(snapshot),
    verifySnapshot: ({ snapshot }) => ({ ...data.snapshot(snapshot), verified: true }),
  };
}
