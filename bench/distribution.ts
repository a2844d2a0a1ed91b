/**
 * What it costs to move snapshots, side by side with what people would do without Sporelet: raw files,
 * `zstd -T2 -3` and `curl`, to the same registry on loopback. Needs zstd, curl, and Debian's docker-registry
 * (tools/setup --with-bench-tools).
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectNode, locateNode, type node as messages, type NodeClient, sporeletHome } from "@sporelet/api";
import { limitRate, startDockerRegistry } from "@sporelet/oci/testing";
import { pullRaw, pushRaw, rawFiles, zstdSizeOfDifference } from "./distribution-floor.ts";
import { progress, shell, started } from "./machines.ts";
import { guestPort, type Suite } from "./parts.ts";
import { type Line, line } from "./report.ts";

const top = join(import.meta.dirname, "..");
const deltaMegabytes = [1, 2, 5, 10];
const rateBitsPerSecond = 100e6;
const resumes = 8;

/** What all of them need. */
interface Transfers extends Suite {
  /** Address of the registry. */
  registry: string;
  /** Existing directory. */
  scratch: string;
}

export async function measureTransfers(suite: Suite): Promise<Line[]> {
  await using cleanUp = new AsyncDisposableStack();
  const scratch = await mkdtemp(join(tmpdir(), "sporelet-bench-"));
  cleanUp.defer(() => rm(scratch, { recursive: true, force: true }));
  const registry = cleanUp.use(await startDockerRegistry()).address;
  const transfers = { ...suite, registry, scratch };
  const { connected } = suite;
  return [
    ...(await connected((here) => measureDeltas(transfers, here))),
    ...(await connected((here) => measurePushAndPull(transfers, here))),
    ...(await measureLazyRun(transfers)),
    ...(await connected((here) => measureDepth(transfers, here))),
  ];
}

/** Bytes of a push of what a clone changed, next to zstd of the same pages, and to the raw files. */
async function measureDeltas(
  { snapshot, directory, registry, scratch }: Transfers,
  here: NodeClient,
): Promise<Line[]> {
  const lines: Line[] = [];
  const reference = (tag: string) => `${registry}/bench/delta:${tag}`;
  await push(here, snapshot, reference("base"));
  const raw = (await rawFiles(directory)).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  for (const megabytes of deltaMegabytes) {
    progress(`delta of ${megabytes} MB`);
    const machine = await started(here.run({ snapshot, ports: [{ guest: guestPort }] }));
    const tag = `bench-delta:${process.pid}`;
    try {
      // A program's text and data: neither random nor empty.
      await shell(here, machine.id, `head -c ${megabytes}M /usr/sbin/dockerd > /dev/shm/touched`);
      const child = await here.createSnapshot({ machine: machine.id, tag, force: true, diff: true });
      const pushed = await push(here, child.digest, reference(`m${megabytes}`));
      const zstdBytes = await zstdSizeOfDifference(child.directory, directory, scratch);
      const sent = Number(pushed.sentBytes);
      lines.push(
        line({
          name: `push after ${megabytes} MB were touched (floor: zstd -3 of the changed pages, + 64 KiB)`,
          unit: "KiB",
          ours: [sent / 1024],
          floor: [(1.1 * zstdBytes + 65_536) / 1024],
          alternative: [raw / 1024],
          limit: { ratioToFloor: 1, ratioToAlternative: 1 / 50 },
        }),
      );
      await here.removeMachine({ machine: machine.id, force: true });
      await here.removeSnapshot({ snapshot: child.digest, force: true });
    } catch (error) {
      await here.removeMachine({ machine: machine.id, force: true }).catch(() => {});
      throw error;
    }
  }
  return lines;
}

/** Times of a push and a pull with nothing known, by turns with raw files, zstd and curl. */
async function measurePushAndPull(
  { snapshot, directory, registry, scratch, ...suite }: Transfers,
  here: NodeClient,
): Promise<Line[]> {
  const runs = suite.runs(3);
  const [ourPush, rawPush, ourPull, rawPull]: number[][] = [[], [], [], []];
  let [pushPeak, pullPeak] = [0, 0];
  for (let i = 0; i < runs; i++) {
    progress(`push and pull ${i + 1} of ${runs}`);
    const repository = `${registry}/bench/whole-${i}`;
    await forget(here, directory);
    await resetPeak(sporeletHome());
    ourPush?.push(await timed(() => push(here, snapshot, `${repository}:v1`)));
    pushPeak = Math.max(pushPeak, await peakBytes(sporeletHome()));
    const raw = await pushRaw(directory, `${registry}/bench/raw-${i}`, scratch);
    rawPush?.push(raw.tookMs);
    await using other = await freshNode();
    ourPull?.push(await timed(() => pull(other.client, `${repository}:v1`)));
    pullPeak = Math.max(pullPeak, await peakBytes(other.home));
    rawPull?.push(await pullRaw(raw, other.home));
  }
  const limit = { ratioToAlternative: 1 };
  return [
    line({
      name: "push of Layer 1 (alternative: zstd -T2 -3, curl)",
      unit: "ms",
      ours: ourPush ?? [],
      alternative: rawPush ?? [],
      limit,
    }),
    line({
      name: "pull of Layer 1 (alternative: curl, zstd -d)",
      unit: "ms",
      ours: ourPull ?? [],
      alternative: rawPull ?? [],
      limit,
    }),
    line({
      name: "peak memory of spored in a push",
      unit: "MB",
      ours: [pushPeak / 1e6],
      limit: { median: 300 },
    }),
    line({
      name: "peak memory of spored in a pull",
      unit: "MB",
      ours: [pullPeak / 1e6],
      limit: { median: 300 },
    }),
  ];
}

/** Ready and fetched bytes of a lazy run over 100 Mbit/s, by turns with a full pull followed by a run. */
async function measureLazyRun({ registry, ...suite }: Transfers): Promise<Line[]> {
  const runs = suite.runs(3);
  const [lazy, full, shares]: number[][] = [[], [], []];
  for (let i = 0; i < runs; i++) {
    progress(`lazy run ${i + 1} of ${runs}`);
    for (const fetch of ["eager", "lazy"]) {
      await using limited = await limitRate({ target: registry, bitsPerSecond: rateBitsPerSecond });
      await using other = await freshNode();
      const name = `${limited.address}/bench/whole-0:v1`;
      let fetched = 0;
      const tookMs = await timed(async () => {
        const machine = await started(other.client.run({ snapshot: name, fetch }));
        fetched = limited.sentBytes;
        return machine;
      });
      if (fetch === "lazy") {
        lazy?.push(tookMs);
        shares?.push(fetched);
      } else {
        full?.push(tookMs);
        shares?.push(fetched);
      }
    }
  }
  const fullBytes = shares?.filter((_, i) => i % 2 === 0) ?? [];
  const lazyBytes = shares?.filter((_, i) => i % 2 === 1) ?? [];
  return [
    line({
      name: "run from a registry at 100 Mbit/s to ready, lazily (alternative: pull, then run)",
      ...{ unit: "ms", ours: lazy ?? [], alternative: full ?? [], limit: { ratioToAlternative: 1 / 5 } },
    }),
    line({
      name: "bytes fetched by then (alternative: all)",
      unit: "MB",
      ours: lazyBytes.map((bytes) => bytes / 1e6),
      alternative: fullBytes.map((bytes) => bytes / 1e6),
      limit: { ratioToAlternative: 1 / 4 },
    }),
  ];
}

/** Resumes of a snapshot at the end of a chain of five, by turns with its base, both pulled. */
async function measureDepth({ snapshot, registry }: Transfers, here: NodeClient): Promise<Line[]> {
  progress("chain of five");
  const names = [`${registry}/bench/chain:1`];
  await push(here, snapshot, names[0] ?? "");
  const made: string[] = [];
  let from = snapshot;
  for (let depth = 2; depth <= 5; depth++) {
    const machine = await started(here.run({ snapshot: from, ports: [{ guest: guestPort }] }));
    await shell(here, machine.id, "head -c 4M /dev/urandom > /root/of-its-own && sync");
    const child = await here.createSnapshot({
      machine: machine.id,
      tag: `bench-chain:${depth}`,
      force: true,
      diff: true,
    });
    await here.removeMachine({ machine: machine.id, force: true });
    made.push(child.digest);
    from = child.digest;
    names.push(`${registry}/bench/chain:${depth}`);
    await push(here, from, names.at(-1) ?? "");
  }
  await using other = await freshNode();
  const [first = "", last = ""] = [names[0], names.at(-1)];
  for (const name of [first, last]) await pull(other.client, name);
  const times: Record<string, number[]> = { [first]: [], [last]: [] };
  for (let i = 0; i < resumes + 1; i++) {
    for (const name of [first, last]) {
      const machine = await started(other.client.run({ snapshot: name }));
      // The first of each reads the files into the page cache.
      if (i > 0) times[name]?.push(machine.timings?.readyMs ?? Number.NaN);
      await other.client.removeMachine({ machine: machine.id, force: true });
    }
  }
  for (const digest of made.reverse()) await here.removeSnapshot({ snapshot: digest, force: true });
  return [
    line({
      name: "resume at the end of a chain of five to ready (alternative: its base)",
      ...{ unit: "ms", ours: times[last] ?? [], alternative: times[first] ?? [] },
      limit: { ratioToAlternative: 1.1 },
    }),
  ];
}

/** A home of its own with nothing in it, on the same disk. */
async function freshNode(): Promise<{ client: NodeClient; home: string } & AsyncDisposable> {
  const home = await mkdtemp(join(top, "out/bench-home-"));
  const client = await connectNode(home);
  return {
    client,
    home,
    async [Symbol.asyncDispose]() {
      const pid = locateNode(home)?.pid;
      await client.shutdownNode({ stopMachines: true });
      client[Symbol.dispose]();
      // Its volume is unmounted when it has ended.
      for (let i = 0; i < 500 && pid !== undefined && alive(pid); i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await rm(home, { recursive: true, force: true });
    },
  };
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Blobs and what is known of publications: the next push encodes anew. */
async function forget(client: NodeClient, directory: string): Promise<void> {
  const { entries } = await client.listCache({});
  const ids = entries.filter(({ kind }) => kind === "blob").map(({ id }) => id);
  if (ids.length > 0) await client.removeCache({ ids });
  const publications = join(directory, "../../publications");
  for (const name of await readdir(publications)) await rm(join(publications, name));
}

async function push(client: NodeClient, name: string, target: string): Promise<messages.Pushed> {
  for await (const { event } of client.push({ snapshot: name, target })) {
    if (event.case === "pushed") return event.value;
  }
  throw new Error("the push ended without a result");
}

async function pull(client: NodeClient, reference: string): Promise<void> {
  for await (const { event } of client.pull({ reference })) if (event.case === "result") return;
  throw new Error("the pull ended without a result");
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Lets the largest resident set be counted anew (proc(5), clear_refs). */
async function resetPeak(home: string): Promise<void> {
  await writeFile(`/proc/${locateNode(home)?.pid}/clear_refs`, "5");
}

/** The largest resident set that a home's spored had since then, or ever. */
async function peakBytes(home: string): Promise<number> {
  const status = await readFile(`/proc/${locateNode(home)?.pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN) * 1024;
}
