import type { Readable, Writable } from "node:stream";

/** A stream that may be a terminal. */
export type Input = Readable & { isTTY?: boolean; setRawMode?: (raw: boolean) => unknown };
export type Output = Writable & { isTTY?: boolean; columns?: number; rows?: number };

/** Where signals come from: `process`, or an emitter in tests. */
interface SignalSource {
  on(name: NodeJS.Signals, listener: (name: NodeJS.Signals) => void): unknown;
  off(name: NodeJS.Signals, listener: (name: NodeJS.Signals) => void): unknown;
}

/** What a command sees of the process it runs in. */
export interface Io {
  stdin: Input;
  stdout: Output;
  stderr: Output;
  env: NodeJS.ProcessEnv;
  cwd: string;
  signals: SignalSource;
  /** Milliseconds since the epoch. */
  now: () => number;
  /** Ends the process at once, for the second Ctrl-C. */
  exit: (code: number) => void;
}

/** The io of this process. */
export function processIo(): Io {
  return {
    get stdin() {
      // Opened by the first use: opening puts a pipe into non-blocking mode, also for whoever shares it.
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    signals: process,
    now: Date.now,
    exit: (code) => process.exit(code),
  };
}

/** Writes, and waits while the other end is slow. Resolves also when the stream is broken: its owner knows. */
export async function write(stream: Writable, data: string | Uint8Array): Promise<void> {
  if (stream.destroyed || stream.write(data)) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      stream.off("drain", done).off("close", done).off("error", done);
      resolve();
    };
    stream.on("drain", done).on("close", done).on("error", done);
  });
}

/** Waits until everything written so far has left the process, or never can. */
export function flushed(stream: Writable): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => {
    stream.once("close", resolve).once("error", () => resolve());
    stream.write("", () => resolve());
  });
}
