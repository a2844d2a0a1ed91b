import type { MessageInitShape } from "@bufbuild/protobuf";
import { SporeletError } from "@sporelet/errors";
import type { AgentClient } from "./agent-client.ts";
import { fromConnectError } from "./errors.ts";
import type { ExecRequestSchema } from "./gen/sporelet/agent/v1/agent_pb.ts";

type Request = MessageInitShape<typeof ExecRequestSchema>;

/** The most that one message carries. */
const chunkBytes = 64 << 10;

export interface ExecOptions {
  /** Program and arguments; the program is looked up in the guest's PATH. */
  argv: string[];
  env?: Record<string, string> | undefined;
  /** Default: `/`. */
  workingDirectory?: string | undefined;
  /** NAME, UID, NAME:GROUP or UID:GID. Default: root. */
  user?: string | undefined;
  /** Gives the program a terminal of this size; its stderr is then part of stdout. */
  tty?: WindowSize | undefined;
  /** What the program reads; none is an empty input. */
  stdin?: AsyncIterable<Uint8Array> | Uint8Array | undefined;
  /** Takes output. The program waits while a promise that it returned is pending. */
  onStdout?: ((data: Uint8Array) => void | Promise<void>) | undefined;
  onStderr?: ((data: Uint8Array) => void | Promise<void>) | undefined;
  /** The program runs. Not called for one that could not be started. */
  onStarted?: ((pid: number) => void) | undefined;
}

export interface WindowSize {
  columns: number;
  rows: number;
}

export interface ExecResult {
  /**
   * Exit code, or 128 + signal. A program that could not be started ends as in a shell: 127 when it was not
   * found, else 126, and the reason on stderr.
   */
  code: number;
  /** Number of the signal that ended it; 0 when it exited. */
  signal: number;
}

/** A program that runs in a guest. */
export interface RunningExec {
  /** Sends a signal, by number, to its process group. Waits behind stdin that was not read yet. */
  signal(number: number): void;
  resize(size: WindowSize): void;
  /** Settles when it has ended and all output was taken. Aborting the call kills its process group. */
  readonly ended: Promise<ExecResult>;
}

/** Runs a program in the guest and waits for its end. See `startExec` for one to be spoken to meanwhile. */
export function exec(client: AgentClient, options: ExecOptions, signal?: AbortSignal): Promise<ExecResult> {
  return startExec(client, options, signal).ended;
}

export interface ExecOutput extends ExecResult {
  stdout: Buffer;
  stderr: Buffer;
}

/** Runs a program in the guest and collects what it writes, in memory. */
export async function execOutput(
  client: AgentClient,
  options: Omit<ExecOptions, "onStdout" | "onStderr">,
  signal?: AbortSignal,
): Promise<ExecOutput> {
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  const result = await exec(
    client,
    { ...options, onStdout: (data) => void stdout.push(data), onStderr: (data) => void stderr.push(data) },
    signal,
  );
  return { ...result, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
}

/** Starts a program in the guest. */
export function startExec(client: AgentClient, options: ExecOptions, signal?: AbortSignal): RunningExec {
  const requests = requestQueue(options);
  return {
    signal: (number) => requests.push({ request: { case: "signal", value: number } }),
    resize: (size) => requests.push({ request: { case: "resize", value: size } }),
    ended: run(client, options, requests, signal),
  };
}

async function run(
  client: AgentClient,
  options: ExecOptions,
  requests: RequestQueue,
  signal?: AbortSignal,
): Promise<ExecResult> {
  const context = { operation: "run in the guest", subject: options.argv[0] };
  const abandoned = new AbortController();
  const callSignal = signal ? AbortSignal.any([signal, abandoned.signal]) : abandoned.signal;
  let result: ExecResult | undefined;
  try {
    for await (const { response } of client.exec(requests.messages(), { signal: callSignal })) {
      switch (response.case) {
        case "started":
          options.onStarted?.(response.value.pid);
          break;
        case "stdout":
          await options.onStdout?.(response.value);
          break;
        case "stderr":
          await options.onStderr?.(response.value);
          break;
        case "exit":
          result = { code: response.value.code, signal: response.value.signal };
          requests.end();
      }
    }
    if (result !== undefined) return result;
    throw new SporeletError({ ...context, code: "unavailable", reason: "the agent ended the call" });
  } catch (error) {
    const failure = requests.failure() ?? error;
    throw fromConnectError(failure, context);
  } finally {
    requests.end();
    abandoned.abort();
  }
}

interface RequestQueue {
  push(request: Request): void;
  messages(): AsyncGenerator<Request>;
  /** What reading stdin threw. */
  failure(): unknown;
  end(): void;
}

/** Merges stdin, which is read no faster than it is sent, with what is to be sent at once. */
function requestQueue(options: ExecOptions): RequestQueue {
  const urgent: Request[] = [];
  let ended = false;
  let failure: unknown;
  let wake = () => {};

  async function* messages(): AsyncGenerator<Request> {
    yield startRequest(options);
    const input = chunks(options.stdin);
    let next: Promise<void> | undefined;
    let arrived: IteratorResult<Uint8Array> | undefined;
    let inputOpen = true;
    try {
      while (!ended) {
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const request = urgent.shift();
        if (request !== undefined) {
          yield request;
          continue;
        }
        if (arrived !== undefined) {
          const { done, value } = arrived;
          arrived = next = undefined;
          inputOpen = !done;
          yield { request: done ? { case: "closeStdin", value: {} } : { case: "stdin", value } };
          continue;
        }
        if (inputOpen && next === undefined) {
          next = input.next().then(
            (result) => {
              arrived = result;
              wake();
            },
            (error) => {
              failure = error ?? new Error("stdin failed");
              ended = true;
              wake();
            },
          );
        }
        await woken;
      }
      if (failure !== undefined) throw failure;
    } finally {
      // Not awaited: a source that is waiting for input may never return.
      void input.return(undefined).catch(() => {});
    }
  }

  return {
    push(request) {
      urgent.push(request);
      wake();
    },
    messages,
    failure: () => failure,
    end() {
      ended = true;
      wake();
    },
  };
}

function startRequest(options: ExecOptions): Request {
  return {
    request: {
      case: "start",
      value: {
        argv: options.argv,
        env: options.env ?? {},
        workingDirectory: options.workingDirectory ?? "",
        user: options.user ?? "",
        tty: options.tty !== undefined,
        ...(options.tty && { size: options.tty }),
      },
    },
  };
}

async function* chunks(input: ExecOptions["stdin"]): AsyncGenerator<Uint8Array> {
  if (input === undefined) return;
  for await (const part of input instanceof Uint8Array ? [input] : input) {
    for (let at = 0; at < part.length; at += chunkBytes) yield part.subarray(at, at + chunkBytes);
  }
}
