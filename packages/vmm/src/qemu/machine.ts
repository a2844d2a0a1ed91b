import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { SporeletError } from "@sporelet/errors";
import type { Machine, MachineEnd, MachineRecord } from "../contract.ts";
import { throwIfAborted, within } from "../wait.ts";
import { logsOf, socketsOf } from "./command-line.ts";
import { describeEnd } from "./explain.ts";
import { goOnWhenThereIsRoom } from "./full-disk.ts";
import { logTail } from "./log.ts";
import { regionsOf } from "./maps.ts";
import { parking } from "./parking.ts";
import type { QemuProcess } from "./process.ts";
import type { Qmp } from "./qmp.ts";

/** How long QEMU may take to end by itself before it is killed. */
const quitTimeoutMs = 1_000;
const killTimeoutMs = 10_000;
/** Parking needs the guest's attention; an overloaded host takes its time. */
const parkTimeoutMs = 30_000;

export interface QemuParts {
  record: MachineRecord;
  process: QemuProcess;
  qmp: Qmp;
  /** The agent channel when it is open already. */
  channel?: Socket | undefined;
}

/** A machine that runs, or is paused, in a QEMU process. */
export function qemuMachine({ record, process, qmp, channel: firstChannel }: QemuParts): Machine {
  const { id } = record;
  let channel: Duplex | undefined;
  let stopping: Promise<void> | undefined;
  let guestEnd: string | undefined;
  const park = parking(qmp);
  const fullDisk = goOnWhenThereIsRoom(qmp);

  qmp.listen(({ event, data }) => {
    if (event === "SHUTDOWN" && data.guest === true) guestEnd = String(data.reason);
  });
  const ended = process.exited.then(async (end): Promise<MachineEnd> => {
    await qmp.closed; // So that a SHUTDOWN event that came last has been seen.
    await removeSockets(record);
    if (stopping !== undefined) return { reason: "stopped" };
    if (guestEnd !== undefined) return { reason: "guest", detail: guestEnd };
    const log = await logTail(logsOf(record).vmm).catch(() => "");
    return { reason: "crashed", detail: [`QEMU ${describeEnd(end)}`, log].filter(Boolean).join("\n") };
  });

  const own = <T extends Duplex>(opened: T): T => {
    channel = opened;
    opened.once("close", () => {
      if (channel === opened) channel = undefined;
    });
    return opened;
  };
  if (firstChannel !== undefined) own(firstChannel);

  const machine: Machine = {
    id,
    pid: record.pid,
    origin: record.origin,
    record,
    ended,
    async pause() {
      fullDisk.paused = true;
      try {
        await qmp.call("stop");
      } catch (error) {
        // Too slow, not undone: the guest must not stand still when nobody knows of it.
        await machine.unpause().catch(() => {});
        throw error;
      }
    },
    async unpause() {
      fullDisk.paused = false;
      await qmp.call("cont");
    },
    async openChannel(signal) {
      if (channel !== undefined && !channel.destroyed) throw busy(id);
      return own(await openAgentSocket(record, signal));
    },
    async parkAgent(parked, signal) {
      throwIfAborted(signal, "park the agent of", id);
      await park(parked, { timeoutMs: parkTimeoutMs, signal });
    },
    async saveState(vmstate, signal) {
      throwIfAborted(signal, "save the state of", id);
      const { running } = await qmp.call<{ running: boolean }>("query-status");
      if (running) throw notPaused(id);
      try {
        // live=false: QEMU keeps its disks, so that the machine can go on (qemu: migration/savevm.c).
        await qmp.call("xen-save-devices-state", { filename: vmstate, live: false });
      } catch (error) {
        const why = await whyNotWritable(vmstate);
        await rm(vmstate, { force: true });
        throw why === undefined
          ? error
          : SporeletError.from(why, { operation: "save the state of", subject: id });
      }
    },
    async memoryMap() {
      const { ino, size } = await stat(record.memory);
      const file = { path: record.memory, inode: ino, bytes: size };
      return regionsOf(await readFile(`/proc/${record.pid}/maps`, "utf8"), file);
    },
    onFullDisk: fullDisk.listen,
    stop() {
      stopping ??= (async () => {
        const left = qmp.call("quit", undefined, { timeoutMs: quitTimeoutMs }).then(() => process.exited);
        await within(left, { operation: "stop", subject: id, timeoutMs: quitTimeoutMs }).catch(() =>
          process.kill(),
        );
        await within(process.exited, { operation: "stop", subject: id, timeoutMs: killTimeoutMs });
        qmp.close();
        await ended;
      })();
      return stopping;
    },
    [Symbol.asyncDispose]: () => machine.stop(),
  };
  return machine;
}

/** Connects to the agent's port. QEMU takes one connection at a time; others wait until it ends. */
export async function openAgentSocket(
  machine: { id: string; runtimeDirectory: string },
  signal?: AbortSignal,
): Promise<Socket> {
  return await connectTo(socketsOf(machine).agent, "reach the agent port of", machine.id, signal);
}

/** Connects to a Unix socket. @throws SporeletError `unavailable` when nobody listens. */
export async function connectTo(
  path: string,
  operation: string,
  subject: string,
  signal?: AbortSignal,
): Promise<Socket> {
  throwIfAborted(signal, operation, subject);
  const socket = connect({ path });
  const connected = new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", (cause) => {
      reject(
        new SporeletError({ code: "unavailable", operation, subject, reason: "QEMU does not listen", cause }),
      );
    });
  });
  try {
    await within(connected, { operation, subject, timeoutMs: 5_000, signal });
  } catch (error) {
    socket.destroy();
    throw error;
  }
  socket.on("error", () => {}); // The user of the channel sees it end.
  return socket;
}

/** QEMU's words for a full disk are many, or only "IO error": what happens to us when we write there tells. */
async function whyNotWritable(file: string): Promise<unknown> {
  return await writeFile(file, Buffer.alloc(64 * 1024)).then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** QEMU removes its sockets when it ends by itself, not when it is killed. */
export async function removeSockets(machine: { id: string; runtimeDirectory: string }): Promise<void> {
  await Promise.all(Object.values(socketsOf(machine)).map((path) => rm(path, { force: true })));
}

function busy(id: string): SporeletError {
  const reason = "its agent channel is open already";
  return new SporeletError({
    code: "failed_precondition",
    operation: "open the agent channel of",
    subject: id,
    reason,
  });
}

function notPaused(id: string): SporeletError {
  const reason = "it is running";
  const hint = "pause it first";
  return new SporeletError({
    code: "failed_precondition",
    operation: "save the state of",
    subject: id,
    reason,
    hint,
  });
}
