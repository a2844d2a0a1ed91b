/**
 * The QEMU process: started so that it outlives us, watched whether it is our child or was taken over.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import type { Duplex } from "node:stream";
import { SporeletError } from "@sporelet/errors";
import { inNetworkNamespace, withMergedMemory, withoutHugePages } from "@sporelet/host";
import type { SlotSpec } from "../contract.ts";
import { type CommandLine, commandLine, inheritedFd, logsOf } from "./command-line.ts";
import { privateDiscardEnvironment, privateDiscardLibrary } from "./private-discard.ts";

/** A machine whose process is to be started; the parts that are not on its command line belong to a restore. */
export type StartedMachine = CommandLine & Pick<Partial<SlotSpec>, "vmstate" | "launcher" | "mergeMemory">;

/** How a process ended; unknown when it was not our child. */
export interface ProcessEnd {
  code?: number | undefined;
  signal?: NodeJS.Signals | undefined;
}

export interface QemuProcess {
  readonly pid: number;
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
  machine: StartedMachine,
): Promise<{ process: QemuProcess; monitor: Duplex }> {
  const child = spawnQemu(binary, machine);
  const exited = new Promise<ProcessEnd>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }));
  });
  const { pid } = child;
  if (pid === undefined) {
    const [cause] = (await once(child, "error")) as [NodeJS.ErrnoException];
    throw cause.code === "ENOENT"
      ? missing(binary, cause)
      : SporeletError.from(cause, { operation: "start", subject: binary });
  }
  child.unref();
  const monitor = child.stdio[inheritedFd.monitor] as Duplex;
  return { process: { pid, exited, kill: () => child.kill("SIGKILL") }, monitor };
}

function spawnQemu(binary: string, machine: StartedMachine): ChildProcess {
  const [program = binary, ...words] = [...(machine.launcher ?? []), binary, ...commandLine(machine)];
  const files: number[] = [];
  const inherit = (path: string, flags: string) => {
    const fd = openSync(path, flags, 0o600);
    files.push(fd);
    return fd;
  };
  try {
    const log = inherit(logsOf(machine).vmm, "a");
    const state = machine.vmstate === undefined ? "ignore" : inherit(machine.vmstate, "r");
    const restored = machine.start.kind === "restore";
    const discard = restored ? inherit(privateDiscardLibrary(), "r") : "ignore";
    const run = () =>
      spawn(program, words, {
        cwd: "/",
        // Nothing of our environment is the VMM's business.
        env: {
          PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin",
          ...(restored && privateDiscardEnvironment(machine.memory)),
        },
        detached: true,
        stdio: ["ignore", log, log, "pipe", state, discard],
      });
    const { network, id } = machine;
    const here = () => (network?.kind === "tap" ? inNamespace(network.netns, id, run) : run());
    const merged = () => (machine.mergeMemory ? withMergedMemory(here) : here());
    // QEMU asks for huge pages for the code that it translates: a clone uses little of most of them (docs/vmm.md).
    return restored ? withoutHugePages(merged) : merged();
  } catch (error) {
    throw SporeletError.from(error, { operation: "start QEMU for", subject: machine.id });
  } finally {
    for (const fd of files) closeSync(fd);
  }
}

/**
 * A child process begins in the network namespace of the thread that starts it. Going there for that moment
 * is 1.3 ms quicker than starting by way of nsenter(1).
 */
function inNamespace<T>(path: string, subject: string, action: () => T): T {
  const home = openSync("/proc/thread-self/ns/net", "r");
  try {
    const netns = openNamespace(path, subject);
    try {
      return inNetworkNamespace(netns, home, action);
    } finally {
      closeSync(netns);
    }
  } finally {
    closeSync(home);
  }
}

function openNamespace(path: string, subject: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    const reason = `its network namespace ${path} cannot be opened`;
    throw new SporeletError({ code: "not_found", operation: "start QEMU for", subject, reason, cause });
  }
}

/** The error for a QEMU that is not there. */
function missing(binary: string, cause?: unknown): SporeletError {
  return new SporeletError({
    code: "unsupported",
    operation: "start QEMU",
    subject: binary,
    reason: "the program is not installed",
    hint: "apt-get install qemu-system-x86",
    cause,
  });
}
