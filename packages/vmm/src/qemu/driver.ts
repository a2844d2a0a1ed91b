import { open, rm, stat } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { processStartTicks, tscKhz } from "@sporelet/host";
import type { BootSpec, MachineRecord, SlotSpec, Vmm } from "../contract.ts";
import { throwIfAborted } from "../wait.ts";
import { attachQemu } from "./attach.ts";
import { logsOf } from "./command-line.ts";
import { explainEnd } from "./explain.ts";
import { logTail } from "./log.ts";
import { openAgentSocket, qemuMachine, removeSockets } from "./machine.ts";
import { requirePrivateDiscard } from "./private-discard.ts";
import { probeQemu } from "./probe.ts";
import { type QemuProcess, type StartedMachine, startQemu } from "./process.ts";
import { openQmp, type Qmp } from "./qmp.ts";
import { qemuSlot } from "./slot.ts";

export interface QemuOptions {
  /** Program, looked up in PATH. Default: qemu-system-x86_64. */
  binary?: string;
}

/** From process start to the monitor's greeting; tens of milliseconds on an idle host. */
const startTimeoutMs = 20_000;

/** The driver for QEMU's microvm machine, with KVM or in software. See docs/vmm.md. */
export function createQemu({ binary = "qemu-system-x86_64" }: QemuOptions = {}): Vmm {
  const vmm: Vmm = {
    name: "qemu",
    probe: (options = {}) => probeQemu(vmm, binary, options),
    async boot(spec, signal) {
      await createMemory(spec);
      const { kernel, initramfs } = spec;
      const kernelArguments = [...(await clockArguments(spec)), ...spec.kernelArguments];
      const boot = { kind: "boot", kernel, initramfs, kernelArguments } as const;
      try {
        const started = await start(binary, { ...spec, start: boot }, "boot", signal);
        return qemuMachine({ ...started, record: recordOf(spec, "boot", started) });
      } catch (error) {
        await rm(spec.memory, { force: true });
        throw error;
      }
    },
    async prepare(spec, signal) {
      await checkState(spec);
      const started = await start(binary, { ...spec, start: { kind: "restore" } }, "prepare a clone", signal);
      const record = recordOf(spec, "resume", started);
      try {
        await requirePrivateDiscard(record);
        const channel = await openAgentSocket(spec, signal);
        return qemuSlot({ ...started, record, channel, disks: spec.disks.length });
      } catch (error) {
        await end(started.process, spec);
        throw error;
      }
    },
    attach: attachQemu,
  };
  return vmm;
}

interface Started {
  process: QemuProcess;
  qmp: Qmp;
  startTicks: number;
}

/** Starts a process and opens its monitor; when that fails the process is gone. */
async function start(
  binary: string,
  machine: StartedMachine,
  operation: string,
  signal: AbortSignal | undefined,
): Promise<Started> {
  throwIfAborted(signal, operation, machine.id);
  const { process, monitor } = await startQemu(binary, machine);
  const why = async () =>
    explainEnd(operation, machine.id, await process.exited, await logTail(logsOf(machine).vmm));
  try {
    const options = { subject: machine.id, explainEnd: why, timeoutMs: startTimeoutMs, signal };
    const [qmp, startTicks = 0] = await Promise.all([
      openQmp(monitor, options),
      processStartTicks(process.pid),
    ]);
    return { process, qmp, startTicks };
  } catch (error) {
    await end(process, machine);
    throw error;
  }
}

async function end(process: QemuProcess, machine: { id: string; runtimeDirectory: string }): Promise<void> {
  process.kill();
  await process.exited;
  await removeSockets(machine);
}

function recordOf(
  spec: BootSpec | SlotSpec,
  origin: MachineRecord["origin"],
  { process, startTicks }: Started,
): MachineRecord {
  const { id, directory, runtimeDirectory, memory } = spec;
  return { driver: "qemu", id, pid: process.pid, startTicks, origin, directory, runtimeDirectory, memory };
}

/**
 * In software the guest's time stamp counter is the host's. Left to itself the kernel measures it against
 * the PIT, which fails on a busy host; and without it the kernel has no timer on this machine (ACPI without
 * legacy interrupts) and hangs for good: four of five boots with both cores busy. For the same reason the
 * kernel must not judge the counter by its tick, of which it misses some: it would go over to counting ticks
 * as its clock, which then is 4 ms coarse and slow.
 */
async function clockArguments({ shape }: BootSpec): Promise<string[]> {
  const khz = shape.accelerator === "tcg" ? await tscKhz() : undefined;
  return khz === undefined ? [] : [`tsc_early_khz=${khz}`, "tsc=reliable"];
}

/** A fresh sparse file: what an older one held would become the guest's memory. */
async function createMemory({ id, memory, shape }: BootSpec): Promise<void> {
  try {
    await using file = await open(memory, "wx", 0o600);
    await file.truncate(shape.memoryBytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST")
      throw SporeletError.from(error, { operation: "boot", subject: id });
    const reason = `the memory file ${memory} exists already`;
    throw new SporeletError({ code: "already_exists", operation: "boot", subject: id, reason, cause: error });
  }
}

/** A guest that touches a page behind the end of its memory file ends the VMM by SIGBUS: look before. */
async function checkState({ id, memory, vmstate, shape }: SlotSpec): Promise<void> {
  const corrupt = (reason: string, cause?: unknown) =>
    new SporeletError({
      code: "corrupt",
      operation: "prepare a clone",
      subject: id,
      reason,
      hint: "the snapshot is damaged: build it again",
      cause,
    });
  const sizeOf = async (path: string) => {
    const file = await stat(path).catch((cause) => {
      throw corrupt(`${path} cannot be read`, cause);
    });
    return file.size;
  };
  const [memoryBytes, stateBytes] = await Promise.all([sizeOf(memory), sizeOf(vmstate)]);
  if (memoryBytes !== shape.memoryBytes) {
    throw corrupt(`the memory file ${memory} has ${memoryBytes} bytes instead of ${shape.memoryBytes}`);
  }
  if (stateBytes === 0) throw corrupt(`the machine state ${vmstate} is empty`);
}
