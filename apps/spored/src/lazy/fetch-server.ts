import { rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import { type FuseFileSystem, mountFuse, syncPath, writeFileAtomic } from "@sporelet/host";
import { registryClient } from "../distribution/client.ts";
import { withPatience } from "./attempts.ts";
import { fetchWhole } from "./blobs.ts";
import { type LazyContent, openContent } from "./content.ts";
import { createMachineDisk, type MachineDisk } from "./disk.ts";
import { type RpcServer, serveRpc } from "./rpc.ts";
import { type FetchSpec, lazyFiles, type ServerStatus } from "./spec.ts";
import { createVictims } from "./victims.ts";
import { readWorkingSet } from "./working-set.ts";

/** The fetcher tries again itself, first what is wanted most: a request that hangs must not hold others up. */
const impatience = { idleTimeoutMs: 10_000, retries: { attempts: 2, longestDelayMs: 1_000 } };
/** How long the start of machines may keep the rest of the snapshot waiting. */
const restAfterMs = 10_000;
/** Without spored, machines, or anything coming: then nobody needs it any more. */
const orphanMs = 60_000;

/**
 * Serves the files of one snapshot while they are being fetched: the memory to all its machines, and a disk to
 * each. Lives as long as somebody uses them, with or without spored.
 *
 * @param onReady called once machines can be started
 * @returns when nobody needs it any more; nothing of it is mounted then
 */
export async function runFetchServer(spec: FetchSpec, stop: AbortSignal, onReady: () => void): Promise<void> {
  const { directory, layers } = spec;
  const at = (name: string) => path.join(directory, name);
  const warn = (reason: string) => process.stderr.write(`lazy files of ${spec.name}: ${reason}\n`);
  await using undo = new AsyncDisposableStack();
  const ending = new AbortController();
  const signal = AbortSignal.any([stop, ending.signal]);
  const client = undo.use(registryClient(spec.origin.access, undefined, impatience));
  const repository = client.repository(spec.origin.registry, spec.origin.repository);
  const { vmstate, workingset } = layers.files;
  const early = [vmstate, workingset].flatMap((file) => file ?? []);
  await Promise.all(early.map((file) => fetchWhole(repository, file, at(file.file), { signal })));
  const workingSet = workingset === undefined ? [] : await readWorkingSet(at("workingset"), warn);

  let rpc: RpcServer | undefined;
  let files: FuseFileSystem | undefined;
  let state: ServerStatus["state"] = "fetching";
  /** The base of all disks is there. */
  let whole = false;
  let laterBytes = 0;
  const victims = createVictims(() => {
    tell();
    try {
      writeFileSync(at(lazyFiles.victims), JSON.stringify(victims.list), { mode: 0o600 });
    } catch (error) {
      // A full disk may be why there are victims; a spored that is there has been told.
      warn(SporeletError.from(error, { operation: "write" }).reason);
    }
  });
  // The kernel's cache is filled one piece after the other, beside all else.
  let stored = Promise.resolve();
  const content: LazyContent = undo.use(
    await openContent({
      repository,
      ...{ layers, directory, name: spec.name, imageBytes: spec.imageBytes },
      workingSet,
      patienceMs: spec.patienceMs,
      onChange: () => tellSoon(),
      onVictim: ({ pid }, error) => victims.add(pid, error),
      onHot(page, bytes) {
        stored = stored.then(() => files?.store("memory", page * 4096, bytes)).catch(() => {});
      },
      signal,
    }),
  );
  const { fetcher, memory, disk } = content;
  const later = Object.values(layers.files).filter((file) => !early.includes(file));
  const totalBytes = content.totalBytes + later.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
  let laterProblem: SporeletError | undefined;
  const problem = () => (fetcher.problem ?? laterProblem)?.reason;
  const status = (): ServerStatus => {
    const reason = problem();
    return {
      state,
      fetchedBytes: fetcher.fetchedBytes + laterBytes,
      totalBytes,
      ...(reason !== undefined && { problem: reason }),
      victims: victims.list,
    };
  };
  const tell = () => rpc?.tell(status());
  let telling: NodeJS.Timeout | undefined;
  const tellSoon = () => {
    telling ??= setTimeout(() => {
      telling = undefined;
      tell();
    }, 100);
  };
  undo.defer(() => clearTimeout(telling));

  const mountpoint = at(lazyFiles.mount);
  await mkdir(mountpoint);
  files = mountFuse({ mountpoint, name: "sporelet" });
  const mounted = files;
  undo.defer(() => mounted.close());
  mounted.add("memory", {
    sizeBytes: memory.image.imageBytes,
    writable: false,
    cached: true,
    ready: (access) => memory.ready(access.offset, access.bytes, access),
    read: memory.image.read,
  });

  const disks = new Map<string, MachineDisk>();
  const dropDisk = (name: string) => {
    mounted.remove(name);
    disks.get(name)?.[Symbol.dispose]();
    disks.delete(name);
  };
  const released = new Set<string>();
  mounted.onReleased((name) => {
    if (released.has(name)) dropDisk(name);
    leaveIfUnused();
  });

  let finished = false;
  let lastUse = performance.now();
  const leaveIfUnused = () => {
    lastUse = performance.now();
    if (finished && mounted.openCount() === 0) ending.abort();
  };
  const orphanWatch = setInterval(() => {
    const used = mounted.openCount() > 0 || (rpc?.connections ?? 0) > 0;
    const busy = state === "fetching" && problem() === undefined;
    if (used || busy) lastUse = performance.now();
    else if (performance.now() - lastUse > orphanMs) ending.abort();
  }, orphanMs / 6);
  undo.defer(() => clearInterval(orphanWatch));

  rpc = undo.use(
    await serveRpc(
      spec.socket,
      {
        status,
        /** Makes the disk of a machine, in a file of its own. */
        addDisk({ name, file }: { name: string; file: string }) {
          if (disk === undefined) throw new TypeError("the snapshot has no disk");
          const base = {
            fd: disk.image.fd,
            imageBytes: disk.image.imageBytes,
            read: disk.image.read,
            ready: disk.ready,
          };
          const made = createMachineDisk(file, base);
          disks.set(name, made);
          mounted.add(name, made);
          if (whole) return made.consolidate();
        },
        /** The machine is gone, or will be when its files are closed. */
        removeDisk({ name }: { name: string }) {
          if (mounted.openCount(name) > 0) released.add(name);
          else dropDisk(name);
        },
        /** The first machine runs: the rest may come. */
        allowRest: () => fetcher.allowRest(),
        /** The snapshot is in the store, or is not wanted: end as soon as nobody has a file open. */
        finish() {
          finished = true;
          leaveIfUnused();
        },
      },
      () => {
        lastUse = performance.now();
      },
    ),
  );
  undo.defer(() => rmSync(spec.socket, { force: true }));
  onReady();

  const rest = setTimeout(() => fetcher.allowRest(), restAfterMs);
  undo.defer(() => clearTimeout(rest));
  const finish = async () => {
    await fetcher.complete;
    for (const file of later) {
      const onBytes = (bytes: number) => {
        laterBytes += bytes;
      };
      // Machines run, and freezing them waits for this: it is no less worth waiting for than pages are.
      await withPatience(() => fetchWhole(repository, file, at(file.file), { signal, onBytes }), {
        signal,
        onProblem(found) {
          laterProblem = found;
          tell();
        },
      });
    }
    await memory.image.sync();
    await disk?.image.sync();
    for (const { file } of Object.values(layers.files)) await syncPath(at(file));
    await writeFileAtomic(at(lazyFiles.complete), "");
    whole = true;
    for (const each of disks.values()) await each.consolidate();
    state = "complete";
    tell();
  };
  finish().catch((error) => {
    if (signal.aborted) return;
    state = "failed";
    laterProblem = SporeletError.from(error, { operation: "fetch" });
    warn(laterProblem.reason);
    tell();
  });
  await Promise.race([aborted(signal), mounted.ended]);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
