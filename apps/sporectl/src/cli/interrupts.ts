import os from "node:os";
import { SporeletError } from "@sporelet/errors";
import type { Io } from "./io.ts";

/** The signals that end a command. */
export const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const satisfies NodeJS.Signals[];

/** What the signals of a process do to the command that runs in it. */
export interface Interrupts extends Disposable {
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP, or when standard output is closed. */
  readonly signal: AbortSignal;
  /** Exit code for how it was interrupted (128 + signal); undefined when it was not. */
  readonly exitCode: number | undefined;
  /** Gives the named signals to `handler` instead, until disposed. */
  takeOver(names: readonly NodeJS.Signals[], handler: (name: NodeJS.Signals) => void): Disposable;
  /** Interrupts as if `name` had arrived. */
  interrupt(name: NodeJS.Signals): void;
}

/** Listens until disposed. A second SIGINT ends the process without waiting for any clean-up. */
export function createInterrupts(io: Io): Interrupts {
  const controller = new AbortController();
  let exitCode: number | undefined;
  let suspended = 0;
  const interrupt = (name: NodeJS.Signals) => {
    if (exitCode !== undefined && name === "SIGINT") return io.exit(exitCode);
    exitCode ??= 128 + os.constants.signals[name];
    const reason = name === "SIGPIPE" ? "standard output was closed" : "it was cancelled";
    controller.abort(new SporeletError({ code: "cancelled", operation: "finish", reason }));
  };
  const onSignal = (name: NodeJS.Signals) => {
    if (suspended === 0) interrupt(name);
  };
  for (const name of endingSignals) io.signals.on(name, onSignal);
  const onBrokenOutput = (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE" || error.code === "EIO") interrupt("SIGPIPE");
    else throw error;
  };
  io.stdout.on("error", onBrokenOutput);
  // Nobody reads the messages: go on without them.
  const ignore = () => {};
  io.stderr.on("error", ignore);

  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    interrupt,
    takeOver(names, handler) {
      suspended += 1;
      for (const name of names) io.signals.on(name, handler);
      return {
        [Symbol.dispose]() {
          suspended -= 1;
          for (const name of names) io.signals.off(name, handler);
        },
      };
    },
    [Symbol.dispose]() {
      for (const name of endingSignals) io.signals.off(name, onSignal);
      io.stdout.off("error", onBrokenOutput);
      io.stderr.off("error", ignore);
    },
  };
}
