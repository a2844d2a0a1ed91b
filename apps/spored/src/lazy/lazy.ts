/**
 * Starts of machines from snapshots that are still being fetched: spored's side. The pages come from a process
 * of its own per snapshot (`runFetchServer`), which outlives spored; what it has fetched becomes an ordinary
 * snapshot of the store. docs/lazy-start.md tells the whole.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import { processStartTicks } from "@sporelet/host";
import { parseConfig } from "@sporelet/store";
import { destroy, retire } from "../lifecycle.ts";
import type { ManagedMachine } from "../machine.ts";
import type { Node, NodeParts } from "../node.ts";
import type { MachineRecord } from "../record.ts";
import { createQueues, unlessAborted } from "../together.ts";
import {
  type LazyRecord,
  lazyDirectory,
  readLazyRecord,
  readVictims,
  removeLazy,
  storeLazy,
  writeLazyRecord,
} from "./entry.ts";
import { connectServing, registryHint, type Serving, serverGone } from "./serving.ts";
import { startLazyServer } from "./spawn.ts";
import { lazyFiles } from "./spec.ts";
import type { Lazy, LazyLease, LazyStart } from "./types.ts";

/** For a server that was told to end. */
const endTimeoutMs = 10_000;

export function createLazy(node: NodeParts): Lazy {
  const servings = new Map<string, { serving: Serving; alive: Disposable; leases: number }>();
  const queues = createQueues();
  const root = path.dirname(lazyDirectory(node.store, "sha256:0"));

  const machinesOf = (digest: string) =>
    [...node.machines].filter(({ record }) => record.lazy === true && record.snapshotDigest === digest);

  const fail = (machine: ManagedMachine, reason: string) => {
    node.log.warn("machine failed for lack of pages", { machine: machine.name, id: machine.id, reason });
    return machine.exclusive(async () => {
      if (machine.live === undefined) return;
      await retire(node as Node, machine, { state: "failed", failure: failureText(reason) });
    });
  };

  /** Ends a server that nobody uses once it has done its work, or cannot do it. */
  const finishIfUnused = (digest: string) => {
    const { serving, leases } = servings.get(digest) ?? {};
    if (serving === undefined || serving.ending || leases !== 0) return;
    const { state, problem } = serving.status;
    const hopeless = state === "failed" || problem !== undefined;
    const used = machinesOf(digest).some(
      ({ live, record }) => live !== undefined || record.state === "starting",
    );
    if (!used && (serving.done || hopeless)) serving.finish();
  };

  const connect = async (record: LazyRecord, configBytes: Buffer) => {
    const { digest } = record;
    const serving = await connectServing(record, configBytes, {
      node: node as Node,
      onVictim(pid, reason) {
        const machine = machinesOf(digest).find((one) => one.record.process?.pid === pid);
        if (machine !== undefined) void fail(machine, reason);
      },
      async onCrash(reason) {
        await Promise.all(machinesOf(digest).map((machine) => fail(machine, reason)));
      },
      onChange: () => finishIfUnused(digest),
    });
    const known = { serving, alive: node.activity.begin(), leases: 0 };
    servings.set(digest, known);
    void serving.gone.then(() => {
      servings.delete(digest);
      known.alive[Symbol.dispose]();
    });
    return serving;
  };

  const begin = async (digest: LazyRecord["digest"], options: LazyStart, signal: AbortSignal) => {
    const { name, configBytes, layers, origin, tag, publication } = options;
    const directory = lazyDirectory(node.store, digest);
    const socket = path.join(node.runtimeDirectory, `lazy-${digest.slice(7, 19)}.sock`);
    await removeLazy(directory);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      const log = path.join(node.home, "lazy.log");
      const patience = { patienceMs: patienceMs() };
      const spec = { kind: "fetch", directory, socket, name, origin, layers, ...patience } as const;
      const server = await startLazyServer(spec, log, signal);
      const record: LazyRecord = {
        ...{ formatVersion: 1, digest, name, publication, server: { ...server, socket } },
        ...(tag !== undefined && { tag }),
      };
      await writeLazyRecord(directory, record, configBytes);
      node.log.info("lazy start", { digest, name, pid: server.pid });
      await connect(record, configBytes);
    } catch (error) {
      await removeLazy(directory);
      throw error;
    }
  };

  const lease = (digest: string): LazyLease | undefined => {
    const known = servings.get(digest);
    if (known === undefined || known.serving.ending) return undefined;
    known.leases += 1;
    let held = true;
    return {
      snapshot: known.serving.snapshot,
      [Symbol.dispose]() {
        if (!held) return;
        held = false;
        known.leases -= 1;
        // Whoever wanted to start machines has done so, or has given up.
        known.serving.allowRest();
        finishIfUnused(digest);
      },
    };
  };

  const failureOf = async ({ lazy, process: vmm, snapshotDigest }: MachineRecord) => {
    if (lazy !== true || vmm === undefined) return undefined;
    const serving = servings.get(snapshotDigest)?.serving;
    const status = await serving?.ask();
    if (serving !== undefined && status === undefined)
      return failureText(serverGone(serving.record.name).reason);
    const victims = status?.victims ?? (await readVictims(lazyDirectory(node.store, snapshotDigest)));
    const reason = victims.find(({ pid }) => pid === vmm.pid)?.reason;
    return reason === undefined ? undefined : failureText(reason);
  };

  return {
    unavailable: whyUnavailable(),
    async start(options, signal) {
      const digest: LazyRecord["digest"] = `sha256:${createHash("sha256").update(options.configBytes).digest("hex")}`;
      return await queues(digest, async () => {
        signal.throwIfAborted();
        const reason = whyUnavailable();
        if (reason !== undefined) {
          throw new SporeletError({
            code: "unsupported",
            operation: "start lazily",
            subject: options.name,
            reason,
            hint: `sporectl pull ${options.name} fetches it as a whole`,
          });
        }
        const joined = lease(digest);
        if (joined !== undefined) return joined;
        await servings.get(digest)?.serving.gone;
        await begin(digest, options, signal);
        const begun = lease(digest);
        if (begun === undefined) throw serverGone(options.name);
        return begun;
      });
    },
    joins: (digest) => servings.get(digest)?.serving.snapshot.lazy.complete,
    settled({ record }, signal) {
      if (record.lazy !== true) return undefined;
      const serving = servings.get(record.snapshotDigest)?.serving;
      return unlessAborted(
        serving?.snapshot.lazy.complete ?? node.store.resolve(record.snapshotDigest),
        signal,
      );
    },
    async started(machine) {
      const reason = await failureOf(machine.record);
      if (reason === undefined) return;
      await machine.exclusive(() => destroy(node as Node, machine));
      throw new SporeletError({
        code: "unavailable",
        operation: "resume",
        subject: machine.name,
        reason,
        hint: registryHint,
      });
    },
    failureOf,
    async released({ id, record }) {
      const serving = record.lazy === true ? servings.get(record.snapshotDigest)?.serving : undefined;
      await serving?.snapshot.lazy.removeDisk(id).catch(() => {});
      finishIfUnused(record.snapshotDigest);
    },
    async adopt() {
      for (const directory of await directoriesIn(root)) {
        const found = await readLazyRecord(directory);
        if (found === undefined) continue;
        const { server, digest } = found.record;
        if ((await processStartTicks(server.pid)) !== server.startTicks) continue;
        await connect(found.record, found.configBytes).then(
          () => node.log.info("server of lazy files taken over", { digest, pid: server.pid }),
          (error) => node.log.error("server of lazy files not taken over", error, { digest }),
        );
      }
    },
    async sweep() {
      for (const machine of node.machines) {
        const { lazy, snapshotDigest, snapshot } = machine.record;
        if (lazy !== true || machine.live === undefined || servings.has(snapshotDigest)) continue;
        await fail(machine, serverGone(snapshot).reason);
      }
      const served = new Set([...servings.values()].map(({ serving }) => serving.directory));
      for (const directory of await directoriesIn(root)) {
        if (served.has(directory)) continue;
        await salvage(node, directory);
        node.log.warn("leftovers of a lazy start removed", { directory });
        await removeLazy(directory);
      }
      for (const digest of servings.keys()) finishIfUnused(digest);
    },
    async [Symbol.asyncDispose]() {
      for (const [digest, { serving }] of [...servings]) {
        if (machinesOf(digest).some(({ live }) => live !== undefined)) serving.leave();
        else serving.finish();
        // Somebody else may look at its files.
        const limit = AbortSignal.timeout(endTimeoutMs);
        await unlessAborted(serving.gone, limit).catch(() => removeLazy(serving.directory));
      }
    },
  };
}

/** All of a snapshot had come, only nobody was there to take it in. */
async function salvage(node: NodeParts, directory: string): Promise<void> {
  if (!existsSync(path.join(directory, lazyFiles.complete))) return;
  const found = await readLazyRecord(directory);
  if (found === undefined) return;
  const { record, configBytes } = found;
  try {
    const config = parseConfig(configBytes.toString("utf8"), record.name);
    await storeLazy(node.store, directory, { record, configBytes, config }, node.shutdown);
  } catch (error) {
    node.log.error("lazy snapshot not stored", error, { digest: record.digest });
  }
}

async function directoriesIn(root: string): Promise<string[]> {
  const names = await readdir(root).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    return [];
  });
  return names.map((name) => path.join(root, name));
}

function failureText(reason: string): string {
  return `its pages could not be fetched any more: ${reason}`;
}

function whyUnavailable(): string | undefined {
  if (process.getuid?.() !== 0) return "it needs root";
  if (!existsSync("/dev/fuse")) return "the kernel has no FUSE here (modprobe fuse)";
  return undefined;
}

/** SPORELET_PATIENCE_MS: how long a machine waits for a page while nothing comes from the registry. */
function patienceMs(): number {
  return Number(process.env.SPORELET_PATIENCE_MS) || 60_000;
}
