import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

export const top = join(import.meta.dirname, "../../..");
const program = join(top, "dist/sporectl");

/** State that the end-to-end tests share: what they build is cached between runs. */
export const sharedHome = process.env.SPORELET_TEST_HOME ?? join(top, "out/test-home");

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Options {
  home?: string;
  env?: Record<string, string>;
  stdin?: Uint8Array | string;
  cwd?: string;
  /** Sees the process as soon as it runs. */
  onStart?: (child: ChildProcess) => void;
  onStderr?: (text: string) => void;
  timeoutMs?: number;
}

/** Runs `sporectl` to its end, whatever its exit code. */
export async function sporectl(args: string[], options: Options = {}): Promise<Result> {
  const { stdout, ...rest } = await sporectlBytes(args, options);
  return { ...rest, stdout: stdout.toString() };
}

export function sporectlBytes(
  args: string[],
  options: Options = {},
): Promise<{ code: number; stdout: Buffer; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, SPORELET_HOME: options.home ?? sharedHome, NO_COLOR: "1", ...options.env },
      stdio: [options.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      timeout: options.timeoutMs ?? 600_000,
      killSignal: "SIGKILL",
    });
    const stdout: Buffer[] = [];
    let stderr = "";
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      options.onStderr?.(text);
    });
    child.stdin?.on("error", () => undefined).end(options.stdin);
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve({ code: code ?? 128 + signalNumber(signal), stdout: Buffer.concat(stdout), stderr });
    });
    options.onStart?.(child);
  });
}

/** Runs `sporectl … --json` and parses what it prints; a failure is an error that shows stderr. */
export async function sporectlJson<T>(args: string[], options: Options = {}): Promise<T> {
  const result = await sporectl([...args, "--json"], options);
  if (result.code !== 0)
    throw new Error(
      `sporectl ${args.join(" ")} ended with ${result.code}:\n${result.stderr}${result.stdout}`,
    );
  return JSON.parse(result.stdout) as T;
}

/** Runs `sporectl` and fails the test unless it ends with 0. */
export async function ok(args: string[], options: Options = {}): Promise<string> {
  const result = await sporectl(args, options);
  if (result.code !== 0)
    throw new Error(
      `sporectl ${args.join(" ")} ended with ${result.code}:\n${result.stderr}${result.stdout}`,
    );
  return result.stdout;
}

function signalNumber(signal: NodeJS.Signals | null): number {
  const numbers: Partial<Record<NodeJS.Signals, number>> = { SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };
  return signal === null ? 0 : (numbers[signal] ?? 0);
}
