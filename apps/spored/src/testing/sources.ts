import { open, writeFile } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { text } from "node:stream/consumers";
import type { node as api, NodeClient } from "@sporelet/api";
import { cloneFile, runProcess } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { openStore, type SnapshotConfig } from "@sporelet/store";
import { buildBase, shell, type TestNode } from "./node.ts";

const top = new URL("../../../../", import.meta.url).pathname;

/** Ports of the two programs in the guest that draw random values. */
export const sourcePorts = { kernel: 8080, python: 8081 };

/** Names of what a program of the guest draws from, with the values in the order in which they were drawn. */
export type Values = Record<string, string[]>;

/** How far a program was when its machine was frozen: the numbers of the draws that had begun. */
interface Progress {
  kernel: { getrandom: bigint; urandom: bigint; process: bigint };
  python?: bigint;
}

/** What marks the pages in which the programs note their progress. */
interface Marks {
  kernel: Buffer;
  python?: Buffer;
}

/** A snapshot in which programs were drawing, and how far they were. */
export interface Sources {
  /** Its name. */
  snapshot: string;
  progress: Progress;
  /** How far they were in a later one, of a machine that came from this one. */
  progressOf(snapshot: string): Promise<Progress>;
}

/**
 * Makes `sources:latest`: a guest that was frozen while its programs drew. It has two virtual CPUs: with one, the
 * agent, which is urgent, leaves programs little chance to run before it has reseeded the kernel's generator.
 */
export async function buildSources(node: TestNode): Promise<Sources> {
  await seed(node, await buildBase(node.client));
  const { client } = node;
  let marks: Marks | undefined;
  for await (const { event } of client.boot({ snapshot: "seed", name: "seed" })) {
    if (event.case === "ready") marks = await startSources(client, "seed");
  }
  if (marks === undefined) throw new Error("the seed did not start");
  await client.createSnapshot({ machine: "seed", tag: "sources" });
  await client.removeMachine({ machine: "seed", force: true });
  const known = marks;
  const progressOf = async (snapshot: string) => {
    const { directory } = await client.inspectSnapshot({ snapshot });
    return await progressIn(path.join(directory, "memory"), known);
  };
  return { snapshot: "sources", progress: await progressOf("sources"), progressOf };
}

/** A snapshot that can only be booted: Layer 0 with another number of CPUs. */
async function seed(node: TestNode, base: api.Snapshot): Promise<void> {
  const { files, ...config } = JSON.parse(base.configJson) as SnapshotConfig;
  const store = await openStore({ root: path.join(node.home, "store") });
  await using draft = await store.newSnapshot();
  const into = (file: string) => path.join(draft.directory, file);
  await using memory = await open(into("memory"), "wx");
  await memory.truncate(config.shape.memoryBytes);
  await writeFile(into("vmstate"), "none");
  for (const file of ["kernel", "initramfs"]) await cloneFile(path.join(base.directory, file), into(file));
  await draft.commit({ ...config, shape: { ...config.shape, cpus: 2 } }, "seed");
}

/**
 * Starts programs in a machine that draw random values as fast as they can: guest/agent/internal/testsource, and
 * Python, if the host has one, with the modules that it needs.
 */
async function startSources(client: NodeClient, machine: string): Promise<Marks> {
  await using directory = await temporaryDirectory();
  const into = (file: string) => path.join(directory.path, file);
  const source = path.join(top, "guest/agent");
  const build = ["go", "-C", source, "build", "-buildvcs=false", "-o", into("testsource")];
  await runProcess([...build, "./internal/testsource"], {
    operation: "build the program that draws",
    env: { ...process.env, CGO_ENABLED: "0" },
  });
  const files = [into("testsource")];
  const script = path.join(import.meta.dirname, "sources.py");
  const example = path.join(top, "examples/uniqueness/sporelet_generation.py");
  const python = await pythonFiles();
  if (python !== undefined) files.push(script, example, ...python.files);
  const archive = into("tar");
  await runProcess(["tar", "-h", "-C", "/", "-cf", archive, ...files.map((file) => file.slice(1))], {
    operation: "pack the programs",
  });
  await unpack(client, machine, archive);

  const marks: Partial<Marks> = {};
  // It starts slowly, and more so beside another program that takes what it gets of the processor.
  if (python !== undefined) {
    const environment = `PYTHONPATH=${path.dirname(example)} PYTHONHOME=${python.home} LD_LIBRARY_PATH=${python.libraries}`;
    const command = `${environment} ${python.program} -S ${script} ${sourcePorts.python}`;
    marks.python = await markOf(client, machine, "python", command);
  }
  const kernel = await markOf(client, machine, "testsource", `${into("testsource")} :${sourcePorts.kernel}`);
  return { ...marks, kernel };
}

/** Starts a program in the background and waits for the mark that it prints. */
async function markOf(client: NodeClient, machine: string, name: string, command: string): Promise<Buffer> {
  const log = `/${name}.log`;
  const wait = `until [ -s ${log} ]; do sleep 0.1; done; cat ${log}`;
  const { stdout } = await shell(client, machine, `(${command} >${log} 2>&1 &); ${wait}`);
  if (!/^[0-9a-f]{32}\n$/.test(stdout)) throw new Error(`${name} does not draw: ${stdout}`);
  return Buffer.from(stdout.trim(), "hex");
}

interface Python {
  program: string;
  home: string;
  libraries: string;
  files: string[];
}

/** The host's Python with what sources.py imports; undefined when there is none that can. */
async function pythonFiles(): Promise<Python | undefined> {
  const imports =
    "json, mmap, os, random, secrets, socket, ssl, struct, sys, uuid, threading, encodings.ascii";
  const list = [
    `import ${imports}`,
    "from importlib.metadata import version",
    "seen = {getattr(m, '__file__', None) for m in list(sys.modules.values())}",
    "print(json.dumps([os.path.realpath(sys.executable), sys.base_prefix, sorted(f for f in seen if f)]))",
  ].join("\n");
  const found = await runProcess(["python3", "-I", "-S", "-c", list], { operation: "look at Python" }).catch(
    () => undefined,
  );
  if (found === undefined) return undefined;
  const [program, home, modules] = JSON.parse(found.stdout) as [string, string, string[]];
  const binaries = [program, ...modules.filter((file) => file.endsWith(".so"))];
  const { stdout } = await runProcess(["ldd", ...binaries], { operation: "look at Python's libraries" });
  const libraries = [...new Set(stdout.match(/\/\S+\.so\S*(?= \(0x)/g))];
  return {
    program,
    home,
    libraries: [...new Set(libraries.map((file) => path.dirname(file)))].join(":"),
    files: [program, ...modules, ...libraries],
  };
}

async function unpack(client: NodeClient, machine: string, archive: string): Promise<void> {
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
export async function valuesAfter(machine: api.Machine, { kernel, python }: Progress): Promise<Values> {
  const numbers = new URLSearchParams(
    Object.entries(kernel).map(([name, begun]): [string, string] => [name, String(begun)]),
  );
  const ports = { kernel: portOf(machine, sourcePorts.kernel), python: portOf(machine, sourcePorts.python) };
  const [response, fromPython] = await Promise.all([
    fetch(`http://127.0.0.1:${ports.kernel}/values?${numbers}`),
    python === undefined ? {} : (say(ports.python, `${python}\n`) as Promise<Values>),
  ]);
  if (!response.ok) throw new Error(await response.text());
  return { ...((await response.json()) as Values), ...fromPython };
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

/**
 * How far a clone's clock is from the host's, milliseconds, by the quickest of several exchanges: the truth is within
 * the uncertainty, half of what that one took. The host's clock is what Date says, not what spored takes it for.
 */
export async function clockOffset(
  machine: api.Machine,
): Promise<{ offsetMs: number; uncertaintyMs: number }> {
  const address = `http://127.0.0.1:${portOf(machine, sourcePorts.kernel)}/clock`;
  // Date.now() rounds down; what that makes uncertain is counted below.
  const now = () => Date.now() + 0.5;
  let best = { offsetMs: 0, uncertaintyMs: Number.POSITIVE_INFINITY };
  for (let round = 0; round < 10; round++) {
    const sent = now();
    const guestMs = Number(await (await fetch(address)).text()) / 1e6;
    const halfMs = (now() - sent) / 2;
    const uncertaintyMs = halfMs + 0.5;
    if (uncertaintyMs < best.uncertaintyMs) best = { offsetMs: guestMs - sent - halfMs, uncertaintyMs };
  }
  return best;
}
