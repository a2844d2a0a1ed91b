import { constants, cp, mkdir, readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { type node as api, connectNode, locateNode, type NodeClient } from "@sporelet/api";
import { ownerOf, runtimeDirectoryOf } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { testLayer0 } from "../../../../packages/vmm/src/conformance/layer0.ts";

/** A home of its own with a spored that serves it; disposing of it ends its machines and itself. */
export interface TestNode extends AsyncDisposable {
  home: string;
  client: NodeClient;
  /** Connects anew, to a spored started for it when none runs. */
  reconnect(): Promise<NodeClient>;
  /** Ends spored as a crash would. */
  kill(): Promise<void>;
}

/** @param parent existing directory for its home. Default: a temporary one. */
export async function startTestNode(parent?: string): Promise<TestNode> {
  const directory =
    parent === undefined
      ? await temporaryDirectory()
      : { path: parent, [Symbol.asyncDispose]: () => rm(path.join(parent, "home"), { recursive: true }) };
  const home = path.join(directory.path, "home");
  const options = { idleExitSeconds: 0 };
  let client = await connectNode(home, options);
  const reconnect = async () => {
    client[Symbol.dispose]();
    client = await connectNode(home, options);
    return client;
  };
  return {
    home,
    get client() {
      return client;
    },
    reconnect,
    async kill() {
      const record = locateNode(home);
      if (record === undefined) throw new Error("no spored runs");
      process.kill(record.pid, "SIGKILL");
      await gone(record.pid);
    },
    async [Symbol.asyncDispose]() {
      // After a test that failed none may run, and machines may.
      await reconnect();
      const pid = locateNode(home)?.pid;
      await client.shutdownNode({ stopMachines: true });
      client[Symbol.dispose]();
      if (pid !== undefined) await gone(pid);
      const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n");
      const left = [...mounts.filter((line) => line.includes(home)), ...(await namespaces(home))];
      if (left.length > 0) throw new Error(`spored left ${left.join(", ")}`);
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Builds Layer 0 as `base:latest`, of the kernel and the initramfs that all tests share. */
export async function buildBase(client: NodeClient): Promise<api.Snapshot> {
  await shareLayer0((await client.version({})).home);
  for await (const { event } of client.build({ path: "/", tag: "base", layer: 0 })) {
    if (event.case === "result") return event.value;
  }
  throw new Error("the build ended without a result");
}

/** Puts into a node's cache what it would fetch from Debian and unpack: the tests of each file have a new node. */
async function shareLayer0(home: string): Promise<void> {
  const { kernel, initramfs } = await testLayer0();
  for (const file of [kernel, initramfs]) {
    const entry = path.dirname(file);
    const [stage = "", key = ""] = entry.split(path.sep).slice(-2);
    const target = path.join(home, "store/cache", stage, key);
    await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
    await cp(entry, target, { recursive: true, mode: constants.COPYFILE_FICLONE });
  }
}

export type RunRequest = Extract<Parameters<NodeClient["run"]>[0], { $typeName?: never }>;

/** Starts clones, of Layer 0 unless the request says otherwise. */
export async function run(client: NodeClient, request: RunRequest = {}): Promise<api.Machine[]> {
  const machines: api.Machine[] = [];
  for await (const { event } of client.run({ snapshot: "base", ...request })) {
    if (event.case === "ready") machines.push(event.value);
  }
  return machines;
}

/** Forks a machine. */
export async function forked(
  client: NodeClient,
  request: Parameters<NodeClient["fork"]>[0],
  signal?: AbortSignal,
): Promise<{ machines: api.Machine[]; digest: string; pauseMs: number }> {
  const machines: api.Machine[] = [];
  let fork: api.Forked | undefined;
  for await (const { event } of client.fork(request, signal && { signal })) {
    if (event.case === "forked") fork = event.value;
    if (event.case === "ready") machines.push(event.value);
  }
  if (fork === undefined) throw new Error("the fork ended without an instant");
  return { machines, digest: fork.digest, pauseMs: fork.pauseMs };
}

export interface Output {
  stdout: string;
  stderr: string;
  code: number;
}

/** Runs a shell command line in a machine. */
export async function shell(client: NodeClient, machine: string, script: string): Promise<Output> {
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  async function* requests() {
    yield { request: { case: "start" as const, value: { machine, argv: ["sh", "-c", script] } } };
  }
  for await (const { response } of client.exec(requests())) {
    if (response.case === "stdout") stdout.push(response.value);
    if (response.case === "stderr") stderr.push(response.value);
    if (response.case === "exit") {
      const text = (parts: Uint8Array[]) => Buffer.concat(parts).toString("utf8");
      return { stdout: text(stdout), stderr: text(stderr), code: response.value.code };
    }
  }
  throw new Error("no exit");
}

/**
 * By how much a guest's clock is wrong at least, milliseconds, that was at so many whole seconds at some time between
 * two of the host's.
 */
export function clockErrorMs(seconds: number, sinceMs: number, untilMs: number): number {
  const earliestMs = seconds * 1000;
  return Math.max(0, sinceMs - (earliestMs + 1000), earliestMs - untilMs);
}

/** What a node has on the host that is to go with its machines: processes, namespaces in use, files. */
export async function traces(home: string): Promise<string[]> {
  const found: string[] = [];
  const runtime = runtimeDirectoryOf(home);
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
    if (command.includes(`${home}/store/machines/`))
      found.push(`process ${pid} ${command.replaceAll("\0", " ")}`);
  }
  for (const id of await readdir(path.join(home, "store/machines"))) found.push(`directory ${id}`);
  for (const name of await readdir(path.join(home, "store/tmp"))) found.push(`temporary ${name}`);
  for (const name of await readdir(runtime)) if (!name.startsWith("spored")) found.push(`socket ${name}`);
  return found;
}

/** Network namespaces of this home, the ones kept ready included. */
export async function namespaces(home: string): Promise<string[]> {
  const names = await readdir("/run/netns").catch(() => []);
  return names.filter((name) => name.startsWith(`spore-${ownerOf(home)}-`));
}

/**
 * Waits until a process is no more, by its entry in /proc: it need not be our child. A leader that is a zombie may
 * still have threads, and with them its files and sockets: a thread is listed until it has let go of them.
 */
async function gone(pid: number): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => undefined);
    if (stat === undefined) return;
    const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
    if (stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z") && threads.length <= 1) return;
    if (performance.now() > deadline) throw new Error(`process ${pid} does not end`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
