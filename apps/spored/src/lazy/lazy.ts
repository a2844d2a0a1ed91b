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
import { requireAgreement, sizesOf } from "../distribution/agreement.ts";
import { contentKey } from "../distribution/content-key.ts";
import { requireRoom } from "../distribution/room.ts";
import { destroy, retire } from "../lifecycle.ts";
import type { ManagedMachine } from "../machine.ts";
import type { Node, NodeParts } from "../node.ts";
import type { MachineRecord } from "../record.ts";
import { createQueues, unlessAborted } from "../together.ts";
import {
  type LazyRecord,
  lazyDirectory,
  lazyRoot,
  newLazyId,
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

/** A server, and who keeps it. */
interface Known {
  serving: Serving;
  /** Keeps spored from ending for lack of work. */
  alive: Disposable;
  leases: number;
}

/** For a server that was told to end. */
const endTimeoutMs = 10_000;

export function createLazy(node: NodeParts): Lazy {
  const servings = new Map<string, Known>();
  const queues = createQueues();
  const root = lazyRoot(node.store);

  const servingOf = ({ lazy }: MachineRecord) =>
    lazy === undefined ? undefined : servings.get(lazy)?.serving;
  const machinesOf = (id: string) => [...node.machines].filter(({ record }) => record.lazy === id);
  /** One that a failure has not ended: what cannot be had for those who began it, others may be able to get. */
  const going = (key: string) =>
    [...servings.values()].find(
      ({ serving: { record, ending, failed } }) => record.key === key && !ending && !failed,
    );

  const fail = (machine: ManagedMachine, reason: string) => {
    node.log.warn("machine failed for lack of pages", { machine: machine.name, id: machine.id, reason });
    return machine.exclusive(async () => {
      if (machine.live === undefined) return;
      await retire(node as Node, machine, { state: "failed", failure: failureText(reason) });
    });
  };

  /** Ends a server that nobody uses once it has done its work, or cannot do it. */
  const finishIfUnused = (id: string) => {
    const { serving, leases } = servings.get(id) ?? {};
    if (serving === undefined || serving.ending || leases !== 0) return;
    const { state, problem } = serving.status;
    const hopeless = state === "failed" || problem !== undefined;
    const used = machinesOf(id).some(({ live, record }) => live !== undefined || record.state === "starting");
    if (!used && (serving.done || hopeless)) serving.finish();
  };

  const connect = async (record: LazyRecord, configBytes: Buffer) => {
    const { id } = record;
    const serving = await connectServing(record, configBytes, {
      node: node as Node,
      onVictim(pid, reason) {
        const machine = machinesOf(id).find((one) => one.record.process?.pid === pid);
        if (machine !== undefined) void fail(machine, reason);
      },
      async onCrash(reason) {
        await Promise.all(machinesOf(id).map((machine) => fail(machine, reason)));
      },
      onChange: () => finishIfUnused(id),
    });
    const known = { serving, alive: node.activity.begin(), leases: 0 };
    servings.set(id, known);
    void serving.gone.then(() => {
      servings.delete(id);
      known.alive[Symbol.dispose]();
    });
    return known;
  };

  const begin = async (
    { digest, key }: Pick<LazyRecord, "digest" | "key">,
    options: LazyStart,
    signal: AbortSignal,
  ) => {
    const { name, configBytes, layers, origin, tag, publication } = options;
    const config = parseConfig(configBytes.toString("utf8"), name);
    requireAgreement(name, config, sizesOf(layers));
    await requireRoom(node, name, { config, layers: [] });
    const imageBytes = { memory: config.files.memory.sizeBytes, disk: config.files.disk?.sizeBytes ?? 0 };
    const id = newLazyId();
    const directory = lazyDirectory(node.store, id);
    const socket = path.join(node.runtimeDirectory, `lazy-${id.slice(0, 12)}.sock`);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      const log = path.join(node.home, "lazy.log");
      const what = { name, origin, layers, imageBytes, patienceMs: patienceMs() };
      const spec = { kind: "fetch", directory, socket, ...what } as const;
      const server = await startLazyServer(spec, log, signal);
      const record: LazyRecord = {
        ...{ formatVersion: 2, id, key, digest, name, publication, server: { ...server, socket } },
        ...(tag !== undefined && { tag }),
      };
      await writeLazyRecord(directory, record, configBytes);
      node.log.info("lazy start", { digest, name, pid: server.pid });
      return await connect(record, configBytes);
    } catch (error) {
      await removeLazy(directory);
      throw error;
    }
  };

  const lease = (known: Known): LazyLease => {
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
        finishIfUnused(known.serving.record.id);
      },
    };
  };

  const failureOf = async (record: MachineRecord) => {
    const { lazy, process: vmm } = record;
    if (lazy === undefined || vmm === undefined) return undefined;
    const serving = servingOf(record);
    const status = await serving?.ask();
    if (serving !== undefined && status === undefined)
      return failureText(serverGone(serving.record.name).reason);
    const victims = status?.victims ?? (await readVictims(lazyDirectory(node.store, lazy)));
    const reason = victims.find(({ pid }) => pid === vmm.pid)?.reason;
    return reason === undefined ? undefined : failureText(reason);
  };

  return {
    unavailable: whyUnavailable(),
    async start(options, signal) {
      const digest: LazyRecord["digest"] = `sha256:${createHash("sha256").update(options.configBytes).digest("hex")}`;
      const key = contentKey({ digest, ...options });
      return await queues(key, async () => {
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
        return lease(going(key) ?? (await begin({ digest, key }, options, signal)));
      });
    },
    joins: (wanted) => going(contentKey(wanted))?.serving.snapshot.lazy.complete,
    settled({ record }, signal) {
      if (record.lazy === undefined) return undefined;
      return unlessAborted(
        servingOf(record)?.snapshot.lazy.complete ?? node.store.resolve(record.snapshotDigest),
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
      if (record.lazy === undefined) return;
      await servingOf(record)
        ?.snapshot.lazy.removeDisk(id)
        .catch(() => {});
      finishIfUnused(record.lazy);
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
        const { lazy, snapshot } = machine.record;
        if (lazy === undefined || machine.live === undefined || servings.has(lazy)) continue;
        await fail(machine, serverGone(snapshot).reason);
      }
      const served = new Set([...servings.values()].map(({ serving }) => serving.directory));
      for (const directory of await directoriesIn(root)) {
        if (served.has(directory)) continue;
        await salvage(node, directory);
        node.log.warn("leftovers of a lazy start removed", { directory });
        await removeLazy(directory);
      }
      for (const id of servings.keys()) finishIfUnused(id);
    },
    async [Symbol.asyncDispose]() {
      for (const [id, { serving }] of [...servings]) {
        if (machinesOf(id).some(({ live }) => live !== undefined)) serving.leave();
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
