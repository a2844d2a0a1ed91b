import os from "node:os";
import type { NodeClient } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Context } from "../cli/context.ts";
import { write } from "../cli/io.ts";
import { rawMode } from "./raw-mode.ts";
import { createExecRequests, type ExecRequests } from "./requests.ts";

/** Signals that are handed on to the program. */
const handedOn = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
/** As many SIGINTs end the call whatever the program makes of them. */
const enoughInterrupts = 3;

export interface ExecOptions {
  machine: string;
  argv: string[];
  env: Record<string, string>;
  workingDirectory: string;
  user: string;
  interactive: boolean;
  tty: boolean;
  /** Where output goes. Default: standard output and standard error. */
  onStdout?: (data: Uint8Array) => Promise<void>;
  onStderr?: (data: Uint8Array) => Promise<void>;
}

/**
 * Runs a program in a machine with this process's standard streams and signals, as if it ran here.
 * @returns its exit code, 128 + signal when a signal ended it
 */
export async function runExec(context: Context, node: NodeClient, options: ExecOptions): Promise<number> {
  const { io } = context;
  const onStdout = options.onStdout ?? ((data) => write(io.stdout, data));
  const onStderr = options.onStderr ?? ((data) => write(io.stderr, data));
  const raw = options.tty && options.interactive && io.stdin.isTTY === true;
  const size = options.tty ? { size: windowSize(context) } : {};
  const env = options.tty ? { TERM: io.env.TERM || "xterm", ...options.env } : options.env;
  const { machine, argv, workingDirectory, user, tty } = options;
  const requests = createExecRequests(
    { request: { case: "start", value: { machine, argv, env, workingDirectory, user, tty, ...size } } },
    options.interactive ? inputOf(context) : undefined,
  );
  const cancel = new AbortController();
  const signal = AbortSignal.any([context.signal, cancel.signal]);
  using _signals = handSignalsOn(context, requests, cancel);
  using _resizes = options.tty ? handResizesOn(context, requests) : undefined;
  using _raw = raw ? rawMode(io.stdin) : undefined;
  try {
    for await (const { response } of node.exec(requests, { signal })) {
      if (response.case === "stdout") await onStdout(response.value);
      else if (response.case === "stderr") await onStderr(response.value);
      else if (response.case === "exit") return response.value.code;
    }
  } finally {
    requests.end();
    if (options.interactive) io.stdin.pause();
  }
  throw new SporeletError({
    code: "unavailable",
    operation: "run",
    subject: argv[0],
    reason: `${machine} ended before it did`,
  });
}

function inputOf(context: Context): AsyncIterable<Uint8Array> {
  // Left open at the end: what is not read belongs to whoever reads next.
  return context.io.stdin.iterator({ destroyOnReturn: false });
}

function windowSize({ io }: Context): { columns: number; rows: number } {
  return { columns: io.stdout.columns ?? 80, rows: io.stdout.rows ?? 24 };
}

function handSignalsOn(context: Context, requests: ExecRequests, cancel: AbortController): Disposable {
  let interrupts = 0;
  return context.interrupts.takeOver(handedOn, (name) => {
    if (name === "SIGINT") interrupts += 1;
    if (interrupts >= enoughInterrupts) {
      context.interrupts.interrupt("SIGINT");
      cancel.abort();
      return;
    }
    requests.send({ request: { case: "signal", value: os.constants.signals[name] } });
  });
}

function handResizesOn(context: Context, requests: ExecRequests): Disposable {
  const onResize = () => requests.send({ request: { case: "resize", value: windowSize(context) } });
  context.io.stdout.on("resize", onResize);
  return { [Symbol.dispose]: () => context.io.stdout.off("resize", onResize) };
}
