import { once } from "node:events";
import { open, writeFile } from "node:fs/promises";
import { Agent, get, type IncomingMessage } from "node:http";
import net from "node:net";
import path from "node:path";
import { text } from "node:stream/consumers";
import type { node as api, NodeClient } from "@sporelet/api";
import { cloneFile, runProcess } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { openStore, type SnapshotConfig } from "@sporelet/store";
import { hostProgram, hostPython } from "./hosts-programs.ts";
import { buildBase, shell, type TestNode } from "./node.ts";

const top = new URL("../../../../", import.meta.url).pathname;

/** Ports of the programs in the guest that draw random values. */
export const sourcePorts = { kernel: 8080, python: 8081, watching: 8082 };

/** Names of what a program of the guest draws from, with the values in the order in which they were drawn. */
export type Values = Record<string, string[]>;

/** How far a program was when its machine was frozen: the numbers of the draws that had begun. */
interface Progress {
  kernel: { getrandom: bigint; urandom: bigint; process: bigint };
  python?: bigint;
  watching?: bigint;
}

/** What marks the pages in which the programs note their progress. */
interface Marks {
  kernel: Buffer;
  python?: Buffer;
  watching?: Buffer;
}

/** A snapshot in which programs were drawing, and how far they were. */
export interface Sources {
  /** Its name. */
  snapshot: string;
  progress: Progress;
  /** One in which a hook runs as well; the same where the host lacks what that needs. */
  hooked: { snapshot: string; progress: Progress };
  /** How far they were in a later one, of a machine that came from this one. */
  progressOf(snapshot: string): Promise<Progress>;
  /** How far they were when this file with the memory of such a machine was written. */
  progressIn(memoryFile: string): Promise<Progress>;
  /**
   * Has a machine that came from it draw by what only begins there: the example that waits for the new generation, fresh
   * processes, and in one that came from `hooked` what the hook sends a signal to.
   */
  drawnAfresh(machine: string, options?: { hooked: boolean }): Promise<Values>;
  /** What the host lacks, so that it does not draw. */
  missing: string[];
}

/**
 * Makes `sources:latest`: a guest that was frozen while its programs drew. It has two virtual CPUs: with one, the
 * agent, which is urgent, leaves programs little chance to run before it has reseeded the kernel's generator.
 */
export async function buildSources(node: TestNode): Promise<Sources> {
  await seed(node, await buildBase(node.client));
  const { client } = node;
  let started: Started | undefined;
  for await (const { event } of client.boot({ snapshot: "seed", name: "seed" })) {
    if (event.case === "ready") started = await startSources(client, "seed");
  }
  if (started === undefined) throw new Error("the seed did not start");
  const { marks, missing, hook } = started;
  await client.createSnapshot({ machine: "seed", tag: "sources" });
  if (hook !== undefined) {
    await expectQuiet(client, "seed", `cp ${hook} /etc/sporelet/hooks/after-resume.d/`);
    await client.createSnapshot({ machine: "seed", tag: "hooked" });
  }
  await client.removeMachine({ machine: "seed", force: true });
  const progressOf = async (snapshot: string) => {
    const { directory } = await client.inspectSnapshot({ snapshot });
    return await progressIn(path.join(directory, "memory"), marks);
  };
  const known = started;
  const frozen = async (snapshot: string) => ({ snapshot, progress: await progressOf(snapshot) });
  return {
    ...(await frozen("sources")),
    hooked: await frozen(hook === undefined ? "sources" : "hooked"),
    ...{ progressOf, missing },
    progressIn: (file) => progressIn(file, marks),
    drawnAfresh: (machine, { hooked } = { hooked: false }) =>
      drawnAfresh(node.client, machine, known, hooked && hook !== undefined),
  };
}

/** Makes `seed:latest`, a snapshot that can only be booted: Layer 0 with two CPUs. */
export async function seed(
  node: TestNode,
  base: api.Snapshot,
  shape: { memoryBytes?: number } = {},
): Promise<void> {
  const { files, ...config } = JSON.parse(base.configJson) as SnapshotConfig;
  const store = await openStore({ root: path.join(node.home, "store") });
  await using draft = await store.newSnapshot();
  const into = (file: string) => path.join(draft.directory, file);
  await using memory = await open(into("memory"), "wx");
  const changed = { ...config.shape, cpus: 2, ...shape };
  await memory.truncate(changed.memoryBytes);
  await writeFile(into("vmstate"), "none");
  for (const file of ["kernel", "initramfs"]) await cloneFile(path.join(base.directory, file), into(file));
  // A hook has to get along with programs that take what they get of the processor.
  await draft.commit({ ...config, hookTimeoutMs: 25_000, shape: changed }, "seed");
}

interface Started {
  marks: Marks;
  /** The hook, at its place in the guest; undefined when the host lacks what it needs. */
  hook?: string | undefined;
  /** Command lines of processes that draw once. */
  fresh: Record<string, string>;
  missing: string[];
}

const examples = path.join(top, "examples/uniqueness");
const pythonImports =
  "json, mmap, os, random, secrets, socket, ssl, struct, sys, uuid, threading, encodings.ascii";

/**
 * Starts programs in a machine that draw random values as fast as they can: guest/agent/internal/testsource, and
 * Python, if the host has one, with the modules that it needs. Beside them the other examples, as they are shipped.
 */
async function startSources(client: NodeClient, machine: string): Promise<Started> {
  await using directory = await temporaryDirectory();
  const into = (file: string) => path.join(directory.path, file);
  const source = path.join(top, "guest/agent");
  const build = ["go", "-C", source, "build", "-buildvcs=false", "-o", into("testsource")];
  await runProcess([...build, "./internal/testsource"], {
    operation: "build the program that draws",
    env: { ...process.env, CGO_ENABLED: "0" },
  });
  const script = path.join(import.meta.dirname, "sources.py");
  const example = path.join(examples, "sporelet_generation.py");
  const watcher = path.join(examples, "on-generation.sh");
  const hook = path.join(examples, "hooks/50-signal-services");
  const python = await hostPython(pythonImports);
  const openssl = await hostProgram("openssl");
  // For the hook, at the place at which that finds it.
  const pkill = await hostProgram("pkill");
  // Each once: they share libraries.
  const files = new Set([into("testsource"), watcher, hook]);
  const inPython = python === undefined ? [] : [script, example, ...python.files];
  for (const file of [...inPython, ...(openssl?.files ?? []), ...(pkill?.files ?? [])]) files.add(file);
  await copyIn(client, machine, [...files]);

  const draw = into("testsource");
  await expectQuiet(client, machine, examplesScript(draw, watcher));
  const marks: Partial<Marks> = {};
  // It starts slowly, and more so beside another program that takes what it gets of the processor.
  if (python !== undefined) {
    const command = `PYTHONPATH=${examples} ${python.environment} ${python.program} -S ${script}`;
    marks.python = await markOf(client, machine, "python", `${command} ${sourcePorts.python}`);
    marks.watching = await markOf(client, machine, "watching", `${command} ${sourcePorts.watching} watch`);
  }
  const kernel = await markOf(client, machine, "testsource", `${draw} :${sourcePorts.kernel}`);
  const fresh: Record<string, string> = {};
  if (python !== undefined) {
    const once = "import random; print('%032x' % random.getrandbits(128))";
    fresh["python -c"] = `${python.environment} ${python.program} -S -c "${once}"`;
  }
  if (openssl !== undefined) {
    fresh["openssl rand"] = `OPENSSL_CONF=/dev/null ${openssl.environment} ${openssl.program} rand -hex 16`;
  }
  const missing = [
    ...(python === undefined ? ["the sources in Python: the host has no python3"] : []),
    ...(openssl === undefined ? ["openssl rand: the host has none"] : []),
    ...(pkill === undefined ? ["hooks/50-signal-services: the host has no pkill"] : []),
  ];
  return { marks: { ...marks, kernel }, hook: pkill && hook, fresh, missing };
}

/**
 * Starts the watcher of examples/uniqueness with a command that draws, and what takes gunicorn's place: a program of
 * that name that draws after SIGHUP, which the hook sends. Both put what they draw where the generation's id leads.
 */
function examplesScript(draw: string, watcher: string): string {
  return `set -e
mkdir -p /drawn/watcher /drawn/signalled /etc/sporelet/hooks/after-resume.d
cat >/drawn/draw <<'END'
#!/bin/sh
# draw DIRECTORY GENERATION
${draw} >"$1/$2.new" && mv "$1/$2.new" "$1/$2"
END
cat >/drawn/gunicorn <<'END'
#!/bin/sh
trap '/drawn/draw /drawn/signalled $(cat /run/sporelet/generation-id)' HUP
sleep 2147483 &
while :; do wait $!; done
END
chmod +x /drawn/draw /drawn/gunicorn
(/drawn/gunicorn >/dev/null 2>&1 &)
(${watcher} /drawn/draw /drawn/watcher >/dev/null 2>&1 &)`;
}

async function drawnAfresh(
  client: NodeClient,
  machine: string,
  { fresh }: Started,
  hooked: boolean,
): Promise<Values> {
  const examplesDrew = ["watcher", ...(hooked ? ["signalled"] : [])].map(
    (name) => `until [ -e /drawn/${name}/$id ]; do sleep 0.1; done; echo "${name} $(cat /drawn/${name}/$id)"`,
  );
  const once = Object.entries(fresh).map(
    ([name, command]) => `echo "${name.replace(" ", "_")} $(${command})"`,
  );
  const lines = ["id=$(cat /run/sporelet/generation-id)", ...examplesDrew, ...once];
  const { stdout } = await shell(client, machine, lines.join("\n"));
  const values: Values = {};
  for (const line of stdout.trim().split("\n")) {
    const [name = "", value = ""] = line.split(" ");
    if (!/^[0-9a-f]{32}$/.test(value)) throw new Error(`${name} drew ${line}`);
    values[name] ??= [];
    values[name].push(value);
  }
  return values;
}

export async function expectQuiet(client: NodeClient, machine: string, script: string): Promise<void> {
  const { code, stdout, stderr } = await shell(client, machine, script);
  if (code !== 0) throw new Error(`${script} ended with ${code}: ${stdout}${stderr}`);
}

/** Starts a program in the background and waits for the mark that it prints. */
async function markOf(client: NodeClient, machine: string, name: string, command: string): Promise<Buffer> {
  const log = `/${name}.log`;
  const wait = `until [ -s ${log} ]; do sleep 0.1; done; cat ${log}`;
  const { stdout } = await shell(client, machine, `(${command} >${log} 2>&1 &); ${wait}`);
  if (!/^[0-9a-f]{32}\n$/.test(stdout)) throw new Error(`${name} does not draw: ${stdout}`);
  return Buffer.from(stdout.trim(), "hex");
}

/** Copies files and directories of the host to the same places in a machine; links become what they lead to. */
export async function copyIn(client: NodeClient, machine: string, paths: string[]): Promise<void> {
  await using directory = await temporaryDirectory();
  const archive = path.join(directory.path, "tar");
  await runProcess(["tar", "-h", "-C", "/", "-cf", archive, ...paths.map((each) => each.slice(1))], {
    operation: "pack the programs",
  });
  await using file = await open(archive, "r");
  async function* requests() {
    yield { request: { case: "start" as const, value: { machine, directory: "/" } } };
    for await (const data of file.readableWebStream() as AsyncIterable<ArrayBuffer>) {
      yield { request: { case: "data" as const, value: new Uint8Array(data) } };
    }
  }
  await client.writeTar(requests());
}

/** Reads in a frozen memory how far the programs were. Nothing in the guest has a part in that. */
async function progressIn(memoryFile: string, marks: Marks): Promise<Progress> {
  const kernel = await pageWith(memoryFile, marks.kernel);
  const number = (index: number) => kernel.readBigUInt64LE(16 + 8 * index);
  return {
    kernel: { getrandom: number(0), urandom: number(1), process: number(2) },
    ...(marks.python && { python: (await pageWith(memoryFile, marks.python)).readBigUInt64LE(16) }),
    ...(marks.watching && { watching: (await pageWith(memoryFile, marks.watching)).readBigUInt64LE(16) }),
  };
}

const pageBytes = 4096;

async function pageWith(file: string, mark: Buffer): Promise<Buffer> {
  await using handle = await open(file, "r");
  const buffer = Buffer.alloc(1 << 20);
  for (let position = 0; ; position += buffer.length) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) throw new Error(`${file} holds no page that begins with ${mark.toString("hex")}`);
    for (let at = buffer.indexOf(mark); at >= 0; at = buffer.indexOf(mark, at + 1)) {
      if (at % pageBytes === 0) return Buffer.from(buffer.subarray(at, at + pageBytes));
    }
  }
}

/** Ends the drawing in a clone and returns the first values of which not even the drawing had begun at the freeze. */
export async function valuesAfter(
  machine: api.Machine,
  { kernel, python, watching }: Progress,
): Promise<Values> {
  const numbers = new URLSearchParams(
    Object.entries(kernel).map(([name, begun]): [string, string] => [name, String(begun)]),
  );
  const from = async (guest: number, begun: bigint | undefined) =>
    begun === undefined ? {} : ((await say(portOf(machine, guest), `${begun}\n`)) as Values);
  const [response, fromPython, fromWatching] = await Promise.all([
    ask(portOf(machine, sourcePorts.kernel), `/values?${numbers}`),
    from(sourcePorts.python, python),
    from(sourcePorts.watching, watching),
  ]);
  const watched = Object.entries(fromWatching).map(([name, list]) => [`watched ${name}`, list]);
  return { ...(JSON.parse(response) as Values), ...fromPython, ...Object.fromEntries(watched) };
}

/** One request to testsource. @param agent keeps the connection for the next one. Default: it is closed */
async function ask(port: number, where: string, agent?: Agent): Promise<string> {
  const signal = AbortSignal.timeout(60_000);
  const request = get({ host: "127.0.0.1", port, path: where, agent: agent ?? false, signal });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const said = await text(response);
  if (response.statusCode !== 200) throw new Error(said);
  return said;
}

async function say(port: number, words: string): Promise<unknown> {
  const socket = net.connect({ host: "127.0.0.1", port, signal: AbortSignal.timeout(60_000) });
  socket.write(words);
  return JSON.parse(await text(socket));
}

function portOf(machine: api.Machine, guest: number): number {
  const port = machine.ports.find((each) => each.guest === guest)?.host;
  if (port === undefined) throw new Error(`port ${guest} is not published`);
  return port;
}

/** Exchanges until the clocks of two computers are compared well enough, at most. */
const mostExchanges = 200;
/** What a guest's clock may seem to be off by because the answers took so long, milliseconds. */
const wellKnownMs = 3;

/**
 * How far a clone's clock is from the host's, milliseconds, by what several exchanges allow together: the truth is within
 * the uncertainty. The host's clock is what Date says, not what spored takes it for; it rounds down.
 */
export async function clockOffset(
  machine: api.Machine,
): Promise<{ offsetMs: number; uncertaintyMs: number }> {
  const port = portOf(machine, sourcePorts.kernel);
  // Its own: the port may have been another machine's a moment ago.
  const agent = new Agent({ keepAlive: true });
  let [least, most] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let n = 0; n < mostExchanges && most - least > 2 * wellKnownMs; n++) {
    const sent = Date.now();
    const guestMs = Number(await ask(port, "/clock", agent)) / 1e6;
    least = Math.max(least, guestMs - (Date.now() + 1));
    most = Math.min(most, guestMs - sent);
  }
  agent.destroy();
  return { offsetMs: (least + most) / 2, uncertaintyMs: (most - least) / 2 };
}
