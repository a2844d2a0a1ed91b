import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { SporeletError } from "@sporelet/errors";
import { inNetns } from "./network/netns.ts";
import { lineSplitter, Output } from "./output.ts";
import { installHint } from "./programs.ts";

export interface RunProcessOptions {
  /** What the program is run for, for error messages: an infinitive without "to". */
  operation: string;
  /** Default: this process's. */
  cwd?: string | undefined;
  /** The whole environment. Default: this process's, but with messages in English, which errors are read from. */
  env?: NodeJS.ProcessEnv | undefined;
  /** Default: /dev/null. */
  stdin?: Readable | Uint8Array | undefined;
  signal?: AbortSignal | undefined;
  /** Default: no limit but `signal`. */
  timeoutMs?: number | undefined;
  /** Called for each line as it comes, without its end; a carriage return ends a line too. */
  onLine?: ((source: "stdout" | "stderr", line: string) => void) | undefined;
  /** Exit codes that are not failures. Default: [0]. */
  ok?: readonly number[] | undefined;
  /** Path of a network namespace to run it in; everything else stays this process's. */
  netns?: string | undefined;
  /** How long the program has to end after SIGTERM before SIGKILL. Default: 3000. */
  killGraceMs?: number | undefined;
}

export interface ProcessResult {
  stdout: string;
  stderr: string;
  code: number;
}

/** What a program may write to stdout; more is a defect of the caller, who should have given a file. */
const stdoutLimitBytes = 64 * 1024 * 1024;
/** Of stderr only the end is of use. */
const stderrLimitBytes = 1024 * 1024;
const logTailLines = 40;

/**
 * Runs a program to its end and returns what it wrote.
 *
 * The program leads a process group of its own, and the whole group is ended when the signal aborts or the
 * time is up, so that nothing of what it started is left.
 *
 * @throws SporeletError `unsupported` when the program is not installed, with the command that installs it;
 *   `cancelled`, `deadline_exceeded`; `resource_exhausted` when it says that the disk is full; otherwise
 *   `internal`, with the tail of what it wrote as the log.
 */
export async function runProcess(
  argv: readonly string[],
  options: RunProcessOptions,
): Promise<ProcessResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new TypeError("runProcess needs a program");
  const { operation, onLine, ok = [0], killGraceMs = 3000 } = options;
  const timeout = options.timeoutMs === undefined ? [] : [AbortSignal.timeout(options.timeoutMs)];
  const signal = AbortSignal.any([...(options.signal ? [options.signal] : []), ...timeout]);
  if (signal.aborted) throw SporeletError.from(signal.reason, { operation });

  const start = () =>
    spawn(program, args, {
      cwd: options.cwd,
      env: options.env ?? { ...process.env, LC_ALL: "C.UTF-8" },
      detached: true,
      stdio: [options.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
  // spawn forks before it returns, and a child begins in the namespace of the thread that forked it.
  const child = options.netns === undefined ? start() : inNetns(options.netns, start);
  const stdout = new Output(stdoutLimitBytes);
  const stderr = new Output(stderrLimitBytes);
  const collect = (source: "stdout" | "stderr", output: Output, stream: Readable | null) => {
    const lines = onLine === undefined ? undefined : lineSplitter((line) => onLine(source, line));
    stream?.on("data", (chunk: Buffer) => {
      output.add(chunk);
      lines?.add(chunk);
    });
    stream?.on("end", () => lines?.end());
  };
  collect("stdout", stdout, child.stdout);
  collect("stderr", stderr, child.stderr);
  feed(child, options.stdin);

  const stopKilling = killOnAbort(child, signal, killGraceMs);
  let code: number;
  let killedBy: NodeJS.Signals | null;
  try {
    [code, killedBy] = await new Promise<[number, NodeJS.Signals | null]>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (exitCode, exitSignal) => resolve([exitCode ?? -1, exitSignal]));
    });
  } catch (error) {
    throw spawnError(error, program, options);
  } finally {
    stopKilling();
  }

  const result = { stdout: stdout.text(), stderr: stderr.text(), code };
  const log = () => tail(result.stderr.trim() === "" ? result.stdout : result.stderr);
  if (signal.aborted) {
    const { code, reason, cause } = SporeletError.from(signal.reason, { operation });
    throw new SporeletError({ code, operation, reason, log: log(), cause });
  }
  if (stdout.truncated) {
    throw new SporeletError({
      code: "internal",
      operation,
      reason: `${program} wrote more than 64 MiB to stdout`,
    });
  }
  if (killedBy !== null || !ok.includes(code)) {
    const full = /no space left on device/i.test(result.stderr);
    const how = killedBy === null ? `exited with code ${code}` : `was ended by ${killedBy}`;
    throw new SporeletError({
      code: full ? "resource_exhausted" : "internal",
      operation,
      reason: full ? `${program} found no space left on the disk` : `${program} ${how}${lastWords(log())}`,
      hint: full ? "free some space" : undefined,
      log: log(),
    });
  }
  return result;
}

/**
 * When the process was started, in clock ticks since boot (field 22 of /proc/PID/stat): together with the
 * pid it names a process for good. Undefined when there is no such process, or only its zombie.
 * @throws what reading fails with otherwise
 */
export async function processStartTicks(pid: number): Promise<number | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch((error: NodeJS.ErrnoException) => {
    // Whatever else keeps us from reading it (EMFILE), the process may live.
    if (error.code !== "ENOENT" && error.code !== "ESRCH") throw error;
    return undefined;
  });
  // The program's name, field 2, may hold spaces and parentheses; fields are counted from its end.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, ticks] = [fields?.[0], fields?.[19]];
  return ticks === undefined || state === "Z" || state === "X" ? undefined : Number(ticks);
}

function feed(child: ChildProcess, input: Readable | Uint8Array | undefined): void {
  const { stdin } = child;
  if (input === undefined || stdin === null) return;
  // A program that ends before it has read everything is judged by its exit code, not by EPIPE.
  if (input instanceof Uint8Array) {
    stdin.on("error", () => {});
    stdin.end(input);
  } else {
    pipeline(input, stdin).catch(() => {});
  }
}

/** @returns a function that calls it off. */
function killOnAbort(child: ChildProcess, signal: AbortSignal, graceMs: number): () => void {
  let timer: NodeJS.Timeout | undefined;
  const kill = (name: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name);
    } catch {
      // ESRCH: the whole group has ended already.
    }
  };
  const onAbort = () => {
    kill("SIGTERM");
    timer = setTimeout(() => kill("SIGKILL"), graceMs);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return () => {
    signal.removeEventListener("abort", onAbort);
    clearTimeout(timer);
    // The leader has ended; what else is left of an aborted group has had its notice.
    if (timer !== undefined) kill("SIGKILL");
  };
}

function spawnError(error: unknown, program: string, options: RunProcessOptions): SporeletError {
  const { operation, cwd } = options;
  const { code, path } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" && path === program) {
    // spawn reports ENOENT for a missing working directory as well.
    const reason = `${program} was not found${cwd === undefined ? "" : ` (working directory ${cwd})`}`;
    return new SporeletError({
      code: "unsupported",
      operation,
      reason,
      hint: installHint(program),
      cause: error,
    });
  }
  return SporeletError.from(error, { operation });
}

function tail(text: string): string {
  return text.trimEnd().split("\n").slice(-logTailLines).join("\n");
}

function lastWords(log: string): string {
  const line = log.slice(log.lastIndexOf("\n") + 1).trim();
  return line === "" ? "" : `: ${line}`;
}
