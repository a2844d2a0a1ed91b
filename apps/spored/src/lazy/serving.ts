import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import {
  type PerFile,
  parseConfig,
  type SnapshotConfig,
  type SnapshotFile,
  type StoredSnapshot,
} from "@sporelet/store";
import type { Node } from "../node.ts";
import { type LazyRecord, lazyDirectory, removeLazy, storeLazy } from "./entry.ts";
import { connectRpc } from "./rpc.ts";
import { lazyFiles, type ServerStatus } from "./spec.ts";
import type { LazySnapshot } from "./types.ts";

/** One snapshot that a server serves, as spored sees it. */
export interface Serving {
  readonly record: LazyRecord;
  readonly directory: string;
  readonly snapshot: LazySnapshot;
  readonly status: ServerStatus;
  /** Nothing more will come of it: all of it is in the store, or cannot be put there. */
  readonly done: boolean;
  /** It never becomes a snapshot of the store: its pages cannot be had, or are not those of its config. */
  readonly failed: boolean;
  /** It was told to end. */
  readonly ending: boolean;
  /** Asks again what the server has to say; undefined when it does not answer any more. */
  ask(): Promise<ServerStatus | undefined>;
  allowRest(): void;
  /** Ends the server as soon as no machine has a file of it open. */
  finish(): void;
  /** Leaves the server to itself, and to the next spored. */
  leave(): void;
  /** Settles when the server has ended and nothing of it is left, or it was left to itself. */
  readonly gone: Promise<void>;
}

export interface ServingOptions {
  node: Pick<Node, "store" | "log" | "shutdown">;
  /** A process could not get pages, and ends. */
  onVictim(pid: number, reason: string): void;
  /** The server ended without having been told to. */
  onCrash(reason: string): Promise<void>;
  onChange(): void;
}

/**
 * Connects to a server and follows it to its end: stores the snapshot when all of it is there, and clears away
 * what is left.
 */
export async function connectServing(
  record: LazyRecord,
  configBytes: Buffer,
  { node, onVictim, onCrash, onChange }: ServingOptions,
): Promise<Serving> {
  const { id, digest, name } = record;
  const directory = lazyDirectory(node.store, id);
  const config = parseConfig(configBytes.toString("utf8"), name);
  const complete = Promise.withResolvers<StoredSnapshot>();
  complete.promise.catch(() => {});
  let status: ServerStatus = { state: "fetching", fetchedBytes: 0, totalBytes: 0, victims: [] };
  let done = false;
  let unstorable = false;
  let ending = false;
  let left = false;

  const changed = (next: ServerStatus) => {
    const before = status;
    status = next;
    for (const { pid, reason } of next.victims.slice(before.victims.length)) onVictim(pid, reason);
    if (next.state === "failed" && before.state !== "failed") {
      complete.reject(notFetched(name, next.problem ?? "its server failed"));
    }
    if (next.state === "complete" && before.state !== "complete") void store();
    onChange();
  };
  const store = async () => {
    try {
      const snapshot = await storeLazy(node.store, directory, { record, configBytes, config }, node.shutdown);
      done = true;
      node.log.info("lazy snapshot stored", { digest, bytes: status.fetchedBytes });
      complete.resolve(snapshot);
    } catch (error) {
      if (!node.shutdown.aborted) node.log.error("lazy snapshot not stored", error, { digest });
      done = true;
      unstorable = true;
      complete.reject(error);
    }
    onChange();
  };

  const context = { operation: "fetch", subject: name };
  const rpc = await connectRpc(record.server.socket, context, (event) => changed(event as ServerStatus));
  const ask = () => rpc.call<ServerStatus>("status").catch(() => undefined);
  changed((await ask()) ?? status);
  const callDisk = (call: string, machineId: string, file?: string) =>
    rpc.call<void>(call, { name: diskName(machineId), file });
  const gone = rpc.closed.then(async () => {
    complete.reject(serverGone(name));
    if (left) return;
    if (!ending) {
      node.log.error("server of lazy files ended", serverGone(name), { digest, pid: record.server.pid });
      await onCrash(serverGone(name).reason);
    }
    await removeLazy(directory).catch((error) => node.log.error("lazy files not removed", error, { digest }));
  });
  return {
    record,
    directory,
    snapshot: {
      ...{ digest, tags: [], directory, config, files: filesOf(directory, config) },
      lazy: {
        id,
        async addDisk(machineId, file) {
          await callDisk("addDisk", machineId, file);
          return path.join(directory, lazyFiles.mount, diskName(machineId));
        },
        removeDisk: (machineId) => callDisk("removeDisk", machineId),
        complete: complete.promise,
        get status() {
          return status;
        },
        async explain({ operation, subject, code, cause, log }) {
          const now = await ask();
          const why =
            now === undefined ? serverGone(name).reason : (now.problem ?? now.victims.at(-1)?.reason);
          if (why === undefined) return undefined;
          const reason = `its pages could not be fetched: ${why}`;
          const hint = now === undefined ? serverGone(name).hint : registryHint;
          return new SporeletError({
            ...{ operation, subject, reason, hint, cause, log },
            code: code === "deadline_exceeded" ? code : "unavailable",
          });
        },
      },
    },
    get status() {
      return status;
    },
    get done() {
      return done;
    },
    get failed() {
      return unstorable || status.state === "failed";
    },
    get ending() {
      return ending;
    },
    ask,
    allowRest: () => void rpc.call("allowRest").catch(() => {}),
    finish() {
      ending = true;
      rpc.call("finish").catch(() => {});
    },
    leave() {
      left = true;
      rpc[Symbol.dispose]();
    },
    gone,
  };
}

function diskName(machineId: string): string {
  return `disk-${machineId}`;
}

/** What a machine is resumed from. The memory is the one that is served. */
function filesOf(directory: string, { files }: SnapshotConfig): PerFile<string> {
  const at = (name: string) => path.join(directory, name);
  const early: SnapshotFile[] = ["vmstate", "workingset"];
  const there = early.filter((file) => files[file] !== undefined).map((file) => [file, at(file)]);
  return { ...Object.fromEntries(there), memory: at(`${lazyFiles.mount}/memory`) } as PerFile<string>;
}

/** What to do when a registry does not give what it should. */
export const registryHint = "see whether the registry has all of it and lets you in, and run it again";

/** Why machines fail when their pages do not come any more. */
export function serverGone(name: string): SporeletError {
  return new SporeletError({
    code: "unavailable",
    operation: "fetch",
    subject: name,
    reason: "the process that served its pages ended unexpectedly",
    hint: "run it again: it is fetched anew; why it ended is in lazy.log of spored's home",
  });
}

function notFetched(name: string, reason: string): SporeletError {
  return new SporeletError({
    code: "unavailable",
    operation: "fetch",
    subject: name,
    reason,
    hint: registryHint,
  });
}
