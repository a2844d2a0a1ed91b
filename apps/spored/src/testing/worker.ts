import { open, writeFile } from "node:fs/promises";
import { get } from "node:http";
import path from "node:path";
import type { node as api, NodeClient } from "@sporelet/api";
import { cloneFile, runProcess } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { openStore, type SnapshotConfig } from "@sporelet/store";
import { buildBase, shell, type TestNode } from "./node.ts";

/** The port that the worker answers on in its guest. */
export const workerPort = 8080;
const diskBytes = 96 * 1024 * 1024;

/** What the worker says of all that it has written so far. */
export interface WorkerReport {
  /** Numbers of the next page of memory and of the next record on the disk. */
  pages: number;
  records: number;
  requests: number;
  /** What is lost or altered; empty strings otherwise. */
  problems: string[];
}

export const sound = ["", "", ""];

/**
 * Makes `worker:latest`: Layer 0 with a disk, on whose file system a program (guest/agent/internal/testworker)
 * writes records, as it does in memory, and answers requests. It was frozen while it did so.
 */
export async function buildWorker(node: TestNode): Promise<api.Snapshot> {
  await seed(node, await buildBase(node.client));
  const { client } = node;
  for await (const { event } of client.boot({ snapshot: "seed", name: "seed" })) {
    if (event.case !== "ready") continue;
    await copyWorker(client, "seed");
    await expectQuiet(client, "mkdir /disk && mount -t ext4 /dev/vda /disk");
    await expectQuiet(client, `(/testworker /disk :${workerPort} >/worker.log 2>&1 &)`);
    await expectQuiet(
      client,
      `until wget -qO /dev/null http://127.0.0.1:${workerPort}/visit; do sleep 0.1; done 2>/dev/null`,
    );
  }
  const snapshot = await client.createSnapshot({ machine: "seed", tag: "worker" });
  await client.removeMachine({ machine: "seed", force: true });
  return snapshot;
}

/** A snapshot that can only be booted: Layer 0's kernel and initramfs, and a disk with an empty file system. */
async function seed(node: TestNode, base: api.Snapshot): Promise<void> {
  const { files, ...config } = JSON.parse(base.configJson) as SnapshotConfig;
  const store = await openStore({ root: path.join(node.home, "store") });
  await using draft = await store.newSnapshot();
  const into = (file: string) => path.join(draft.directory, file);
  for (const [file, bytes] of [
    ["memory", config.shape.memoryBytes],
    ["disk", diskBytes],
  ] as const) {
    await using handle = await open(into(file), "wx");
    await handle.truncate(bytes);
  }
  await writeFile(into("vmstate"), "none");
  for (const file of ["kernel", "initramfs"]) await cloneFile(path.join(base.directory, file), into(file));
  await runProcess(["mkfs.ext4", "-q", into("disk")], { operation: "make a file system" });
  await draft.commit({ ...config, shape: { ...config.shape, disks: 1 } }, "seed");
}

async function copyWorker(client: NodeClient, machine: string): Promise<void> {
  await using directory = await temporaryDirectory();
  const source = new URL("../../../../guest/agent", import.meta.url).pathname;
  const target = path.join(directory.path, "testworker");
  const build = ["go", "-C", source, "build", "-buildvcs=false", "-o", target, "./internal/testworker"];
  await runProcess(build, { operation: "build the worker", env: { ...process.env, CGO_ENABLED: "0" } });
  const archive = path.join(directory.path, "tar");
  await runProcess(["tar", "-C", directory.path, "-cf", archive, "testworker"], {
    operation: "pack the worker",
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

async function expectQuiet(client: NodeClient, script: string): Promise<void> {
  const { code, stdout, stderr } = await shell(client, "seed", script);
  if (code !== 0) throw new Error(`${script} ended with ${code}: ${stdout}${stderr}`);
}

/** The host port of the worker's, of a machine that was started with `{ guest: workerPort }`. */
export function portOf(machine: api.Machine | undefined): number {
  const port = machine?.ports.find(({ guest }) => guest === workerPort)?.host;
  if (port === undefined) throw new Error("the worker's port is not published");
  return port;
}

/** One request more. */
export async function visit(port: number): Promise<number> {
  return ((await ask(port, "/visit")) as { requests: number }).requests;
}

/** Makes one request after the other until it is ended. The first that fails ends it, with its error. */
export function visitContinually(port: number): AsyncDisposable & { end(): Promise<{ answers: number[] }> } {
  const answers: number[] = [];
  let ended = false;
  const going = (async () => {
    while (!ended) answers.push(await visit(port));
  })();
  going.catch(() => {}); // Whoever ends it gets the error.
  const end = async () => {
    ended = true;
    await going;
    return { answers };
  };
  return {
    end,
    async [Symbol.asyncDispose]() {
      await end();
    },
  };
}

/** Lets the worker look at everything that it wrote. */
export async function verify(port: number): Promise<WorkerReport> {
  return (await ask(port, "/verify")) as WorkerReport;
}

/** Ends the worker's work and closes its file. */
export async function endWork(port: number): Promise<void> {
  const { problem } = (await ask(port, "/end")) as { problem: string };
  if (problem !== "") throw new Error(problem);
}

function ask(port: number, where: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = {
      host: "127.0.0.1",
      port,
      path: where,
      agent: false,
      signal: AbortSignal.timeout(60_000),
    };
    get(options, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("error", reject).on("end", () => resolve(JSON.parse(body)));
    }).on("error", reject);
  });
}
