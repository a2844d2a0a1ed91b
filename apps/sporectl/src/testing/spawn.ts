import { type ChildProcessByStdio, spawn } from "node:child_process";
import path from "node:path";
import type { Readable, Writable } from "node:stream";

const main = path.join(import.meta.dirname, "../main.ts");

export interface RunningCli {
  child: ChildProcessByStdio<Writable, Readable, Readable>;
  stderr: () => string;
  /** `stdout` is what was read of it before the end; empty when the test reads it itself. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string }>;
}

/** Starts sporectl as a process of its own; with `shell`, in that shell script as "$0" "$1". */
export function startCli(
  home: string,
  args: string[],
  options: { shell?: string; input?: string } = {},
): RunningCli {
  const argv =
    options.shell === undefined
      ? [process.execPath, main, ...args]
      : ["sh", "-c", options.shell, process.execPath, main];
  const [program = "", ...rest] = argv;
  const child = spawn(program, rest, {
    stdio: "pipe",
    env: { ...process.env, SPORELET_HOME: home, NODE_NO_WARNINGS: "1" },
  });
  let stdout = "";
  let stderr = "";
  if (options.shell !== undefined)
    child.stdout.on("data", (data: Buffer) => {
      stdout += data.toString();
    });
  child.stderr.on("data", (data: Buffer) => {
    stderr += data.toString();
  });
  if (options.input !== undefined) child.stdin.end(options.input);
  const ended = new Promise<Awaited<RunningCli["ended"]>>((resolve) => {
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, stderr: () => stderr, ended };
}
