/**
 * The QEMU process: started so that it outlives us, watched whether it is our child or was taken over.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Duplex } from "node:stream";
import { SporeletError } from "@sporelet/errors";
import { processStartTicks } from "@sporelet/host";
import { type CommandLine, commandLine, inheritedFd, logsOf } from "./command-line.ts";

/** How a process ended; unknown when it was not our child. */
export interface ProcessEnd {
  code?: number | undefined;
  signal?: NodeJS.Signals | undefined;
}

export interface QemuProcess {
  readonly pid: number;
  readonly startTicks: number;
  /** Settles when the process has ended and was reaped. Never rejects. */
  readonly exited: Promise<ProcessEnd>;
  /** Sends SIGKILL; does nothing when the process has ended. */
  kill(): void;
}

/**
 * Starts QEMU in a session of its own. The returned monitor is a connected pair of sockets: it carries the
 * greeting as soon as QEMU is up, without waiting for a path to appear.
 *
 * @throws SporeletError `unsupported` when the program is missing.
 */
export async function startQemu(
  binary: string,
  machine: CommandLine & { vmstate?: string },
): Promise<{ process: QemuProcess; monitor: Duplex }> {
  const log = openSync(logsOf(machine).vmm, "a", 0o600);
  const state = machine.vmstate === undefined ? undefined : openSync(machine.vmstate, "r");
  let child: ChildProcess;
  try {
    const inNetns = machine.network?.kind === "tap" ? ["nsenter", `--net=${machine.network.netns}`] : [];
    const [program = binary, ...words] = [...inNetns, binary, ...commandLine(machine)];
    child = spawn(program, words, {
      cwd: "/",
      // Nothing of our environment is the VMM's business.
      env: { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin" },
      detached: true,
      stdio: ["ignore", log, log, "pipe", state ?? "ignore"],
    });
  } finally {
    closeSync(log);
    if (state !== undefined) closeSync(state);
  }
  const exited = new Promise<ProcessEnd>((resolve) => {
    child.on("exit", (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }));
    child.on("error", () => resolve({}));
  });
  const { pid } = child;
  if (pid === undefined) {
    const [error] = (await new Promise((resolve) => child.on("error", (cause) => resolve([cause])))) as [
      Error,
    ];
    throw missing(binary, error);
  }
  child.unref();
  const startTicks = (await processStartTicks(pid)) ?? 0;
  return {
    process: { pid, startTicks, exited, kill: () => child.kill("SIGKILL") },
    monitor: child.stdio[inheritedFd.monitor] as Duplex,
  };
}

/** The error for a QEMU that is not there. */
export function missing(binary: string, cause?: unknown): SporeletError {
  return new SporeletError({
    code: "unsupported",
    operation: "start QEMU",
    subject: binary,
    reason: "the program is not installed",
    hint: "apt-get install qemu-system-x86",
    cause,
  });
}
