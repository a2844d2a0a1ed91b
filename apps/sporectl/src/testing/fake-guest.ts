import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { PassThrough, Readable, type Writable } from "node:stream";
import { finished } from "node:stream/promises";
import type { ServiceImpl } from "@connectrpc/connect";
import type { node } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { write } from "../cli/io.ts";
import type { FakeData } from "./fake-data.ts";

type Service = ServiceImpl<typeof node.NodeService>;
type Output = {
  response:
    | { case: "stdout" | "stderr"; value: Uint8Array<ArrayBuffer> }
    | { case: "exit"; value: { code: number; signal: number } };
};

/** Runs programs on this host. With tty, `script` of util-linux gives them a terminal. */
export function fakeExec(data: FakeData, seen: string[]): Service["exec"] {
  return async function* exec(requests, { signal }) {
    const input = requests[Symbol.asyncIterator]();
    const first = (await input.next()).value?.request;
    if (first?.case !== "start") throw new Error("the first request must be start");
    const { machine, argv, env, workingDirectory, tty, size } = first.value;
    data.machine(machine);
    const stty = `stty cols ${size?.columns ?? 80} rows ${size?.rows ?? 24};`;
    const [program = "", ...args] = tty
      ? ["script", "-qfec", `${stty} exec ${argv.map(quoted).join(" ")}`, "/dev/null"]
      : argv;
    // As the real agent: a reason on standard error, and the code that shells use.
    if (!tty && spawnSync("sh", ["-c", 'command -v "$0"', program]).status !== 0) {
      const reason = new TextEncoder().encode(`${program}: not found in PATH\n`);
      yield { response: { case: "stderr" as const, value: reason } };
      yield { response: { case: "exit" as const, value: { code: 127, signal: 0 } } };
      return;
    }
    const child = spawn(program, args, {
      cwd: workingDirectory || "/",
      env: { PATH: process.env.PATH, ...env },
      detached: true,
    });
    const kill = (number: number) => child.pid !== undefined && process.kill(-child.pid, number);
    const onAbort = () => kill(9);
    signal.addEventListener("abort", onAbort);
    const ended = new Promise<{ code: number; signal: number }>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, name) => {
        const number = name === null ? 0 : os.constants.signals[name];
        resolve({ code: code ?? 128 + number, signal: number });
      });
    });
    feed(child, input, kill, seen).catch(() => {});
    try {
      yield* merged(child);
      yield { response: { case: "exit" as const, value: await ended } };
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  };
}

async function feed(
  child: ChildProcess,
  input: AsyncIterator<node.ExecRequest>,
  kill: (signal: number) => unknown,
  seen: string[],
): Promise<void> {
  const stdin = child.stdin as Writable;
  stdin.on("error", () => {});
  for (let next = await input.next(); !next.done; next = await input.next()) {
    const { request } = next.value;
    if (request.case === "stdin") {
      await write(stdin, request.value);
    } else if (request.case === "closeStdin") stdin.end();
    else if (request.case === "signal") kill(request.value);
    else if (request.case === "resize") seen.push(`resize ${request.value.columns}x${request.value.rows}`);
  }
  stdin.end();
}

/** Both outputs as they come, each only as fast as it is taken. */
async function* merged(child: ChildProcess): AsyncGenerator<Output> {
  const both = new PassThrough({ objectMode: true, highWaterMark: 4 });
  const forward = async (name: "stdout" | "stderr") => {
    for await (const data of child[name] as Readable) {
      const value = data as Uint8Array<ArrayBuffer>;
      if (!both.write({ response: { case: name, value } }))
        await new Promise((resolve) => both.once("drain", resolve));
    }
  };
  Promise.all([forward("stdout"), forward("stderr")]).then(
    () => both.end(),
    (error: Error) => both.destroy(error),
  );
  yield* both as AsyncIterable<Output>;
}

/** Files of the guest are those below a directory of this host; tars are made and read by tar(1). */
export function fakeFiles(root: string, data: FakeData): Pick<Service, "statFile" | "readTar" | "writeTar"> {
  const inside = (file: string) => path.join(root, path.posix.normalize(`/${file}`));
  return {
    statFile: ({ machine, path: file }) => {
      data.machine(machine);
      const stats = statSync(inside(file), { throwIfNoEntry: false });
      return {
        exists: stats !== undefined,
        directory: stats?.isDirectory() === true,
        size: BigInt(stats?.size ?? 0),
      };
    },
    async *readTar({ machine, path: file }) {
      data.machine(machine);
      const place = inside(file);
      if (statSync(place, { throwIfNoEntry: false }) === undefined) {
        throw new SporeletError({
          code: "not_found",
          operation: "read",
          subject: `${machine}:${file}`,
          reason: "no such file or directory",
        });
      }
      const child = spawn("tar", ["-c", "--format=pax", "-C", path.dirname(place), path.basename(place)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      for await (const chunk of child.stdout) yield { data: chunk as Uint8Array<ArrayBuffer> };
    },
    async writeTar(requests) {
      const input = requests[Symbol.asyncIterator]();
      const first = (await input.next()).value?.request;
      if (first?.case !== "start") throw new Error("the first request must be start");
      data.machine(first.value.machine);
      const child = spawn("tar", ["-x", "-p", "-C", inside(first.value.directory)], {
        stdio: ["pipe", "inherit", "inherit"],
      });
      const ended = new Promise((resolve) => child.once("close", resolve));
      const content = async function* () {
        for (let next = await input.next(); !next.done; next = await input.next()) {
          if (next.value.request.case === "data") yield next.value.request.value;
        }
      };
      await finished(Readable.from(content()).pipe(child.stdin));
      if ((await ended) !== 0) throw new Error("tar failed");
      return {};
    },
  };
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
