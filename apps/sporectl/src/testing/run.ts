import { EventEmitter } from "node:events";
import { PassThrough, Readable, Writable } from "node:stream";
import type { Io } from "../cli/io.ts";
import { runCli } from "../cli/run.ts";
import { testNowMs } from "./fake-data.ts";

export interface CliResult {
  code: number;
  stdout: Buffer;
  stderr: string;
}

export interface CliOptions {
  home: string;
  stdin?: Uint8Array | Readable;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Makes standard error, and standard output, terminals of so many columns. */
  columns?: number;
  /** Called when standard output or standard error got something. */
  onOutput?: (running: { signals: EventEmitter; stdout: string; stderr: string }) => void;
}

/** Runs sporectl in this process, with its streams, its signals and its clock under control. */
export async function runForTest(argv: readonly string[], options: CliOptions): Promise<CliResult> {
  const signals = new EventEmitter();
  const collected: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  const text = (name: "stdout" | "stderr") => Buffer.concat(collected[name]).toString();
  const output = (name: "stdout" | "stderr") => {
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        collected[name].push(Buffer.from(chunk));
        options.onOutput?.({ signals, stdout: text("stdout"), stderr: text("stderr") });
        done();
      },
    });
    return Object.assign(
      stream,
      options.columns === undefined ? {} : { isTTY: true, columns: options.columns, rows: 24 },
    );
  };
  const { stdin } = options;
  const io: Io = {
    stdin:
      stdin instanceof Readable
        ? stdin
        : stdin === undefined
          ? new PassThrough()
          : Readable.from([stdin], { objectMode: false }),
    stdout: output("stdout"),
    stderr: output("stderr"),
    env: { SPORELET_HOME: options.home, HOME: "/nonexistent", ...options.env },
    cwd: options.cwd ?? "/",
    signals: signals as Io["signals"],
    now: () => testNowMs,
    exit: (code) => {
      throw new Error(`exit(${code})`);
    },
  };
  const code = await runCli(argv, io);
  return { code, stdout: Buffer.concat(collected.stdout), stderr: text("stderr") };
}
