import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { locateNode, nodeClient, sporeletHome } from "@sporelet/api";

const program = join(dirname(fileURLToPath(import.meta.url)), "../../dist/sporectl");

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

interface CommandOptions {
  signal?: AbortSignal;
  /** Neither the command nor its output is shown. */
  quiet?: boolean;
  allowFailure?: boolean;
  /** stdout is collected, not shown. */
  capture?: boolean;
}

/** Runs sporectl as a person would, and shows the command. */
export function sporectl(
  args: string[],
  options: CommandOptions = {},
): Promise<{ code: number; stdout: string }> {
  const { signal, quiet = false, allowFailure = false, capture = quiet } = options;
  if (!quiet) say(`   $ sporectl ${args.join(" ")}`);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ["ignore", capture ? "pipe" : "inherit", quiet && allowFailure ? "ignore" : "inherit"],
    });
    // A terminal's Ctrl-C reaches the child by itself; SIGTERM to us alone has to be handed on.
    const interrupt = (): void => void child.kill("SIGINT");
    signal?.addEventListener("abort", interrupt, { once: true });
    let stdout = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      signal?.removeEventListener("abort", interrupt);
      if (code !== 0 && !allowFailure) reject(new Error(`sporectl ${args[0]} ended with exit code ${code}`));
      else resolve({ code: code ?? 1, stdout });
    });
  });
}

export async function sporectlJson<T>(args: string[], options: CommandOptions = {}): Promise<T> {
  return JSON.parse((await sporectl(args, { ...options, capture: true })).stdout) as T;
}

interface Resumed {
  id: string;
  name: string;
  hostPort: number;
  readyMs: number;
  stages: { slot: number; load: number; agent: number; ready: number };
}

/** A client of the running spored, for what has to be timed without a program's start. */
export async function timedNode() {
  const home = sporeletHome();
  const record = locateNode(home);
  if (record === undefined) throw new Error(`no spored runs for ${home}`);
  const client = nodeClient({ socketPath: record.socket });
  return {
    async resume(
      request: { snapshot: string; name: string; guestPort: number },
      signal: AbortSignal,
    ): Promise<Resumed> {
      const { snapshot, name, guestPort } = request;
      const ports = [{ host: 0, guest: guestPort }];
      for await (const { event } of client.run({ snapshot, name, ports }, { signal })) {
        if (event.case !== "ready") continue;
        const { timings } = event.value;
        return {
          id: event.value.id,
          name,
          hostPort: event.value.ports[0]?.host ?? 0,
          readyMs: timings?.readyMs ?? Number.NaN,
          stages: {
            slot: timings?.slotMs ?? Number.NaN,
            load: timings?.loadMs ?? Number.NaN,
            agent: timings?.agentMs ?? Number.NaN,
            ready: timings?.readyStageMs ?? Number.NaN,
          },
        };
      }
      throw new Error(`spored reported no clone of ${snapshot}`);
    },
    async medianPssBytes(ids: string[], signal: AbortSignal): Promise<number> {
      for await (const { machines } of client.stats({ machines: ids }, { signal })) {
        const sizes = machines.map((machine) => Number(machine.pssBytes)).sort((a, b) => a - b);
        return sizes[Math.floor(sizes.length / 2)] ?? Number.NaN;
      }
      throw new Error("spored reported no memory");
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}
