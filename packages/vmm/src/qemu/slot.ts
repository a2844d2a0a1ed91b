import type { Socket } from "node:net";
import { SporeletError } from "@sporelet/errors";
import type { MachineRecord, Slot } from "../contract.ts";
import { within } from "../wait.ts";
import { diskDevice } from "./command-line.ts";
import { qemuMachine, removeSockets } from "./machine.ts";
import type { QemuProcess } from "./process.ts";
import type { Qmp } from "./qmp.ts";

const loadTimeoutMs = 20_000;

/**
 * A QEMU that loads its state, or has loaded it, and waits for `cont`.
 *
 * The state is loaded at once rather than at `resume`: loading a state that is known already is preparation,
 * and the guest does not run. So `resume` is one write to the agent channel and one monitor command.
 */
export function qemuSlot(parts: {
  record: MachineRecord;
  process: QemuProcess;
  qmp: Qmp;
  channel: Socket;
  /** How many it has. */
  disks: number;
}): Slot {
  const { record, process, qmp, channel, disks } = parts;
  let owner = true;
  const loaded = load(qmp);
  const prepared = loaded.then(() => {});
  prepared.catch(() => {}); // Told by resume.

  const end = async () => {
    channel.destroy();
    process.kill();
    await process.exited;
    qmp.close();
    await removeSockets(record);
  };
  let ending: Promise<void> | undefined;
  // Whoever asks again, as a resume that fails does while its slot is given up, waits for the same end.
  const discard = async () => {
    if (owner) ending = end();
    owner = false;
    await ending;
  };
  return {
    id: record.id,
    pid: record.pid,
    prepared,
    ended: process.exited.then(() => {}),
    async resume({ firstWords, diskBytesPerSecond, signal } = {}) {
      const { id } = record;
      if (!owner) throw used(id);
      const calledAt = performance.now();
      try {
        // In the socket's buffer when the guest begins to run.
        if (firstWords !== undefined) channel.write(firstWords);
        if (diskBytesPerSecond !== undefined) await limitDisks(qmp, disks, diskBytesPerSecond);
        // Sent without waiting for the load: QEMU does one after the other, and before the state is loaded
        // `cont` means "run when it is".
        const running = qmp.call("cont", undefined, { signal, timeoutMs: loadTimeoutMs });
        running.catch(() => {});
        const loadedAt = await within(loaded, {
          operation: "load the state of",
          subject: id,
          timeoutMs: loadTimeoutMs,
          signal,
        });
        await running;
        owner = false;
        return {
          machine: qemuMachine({ record, process, qmp, channel }),
          channel,
          loadedAt: Math.max(calledAt, loadedAt),
        };
      } catch (error) {
        await discard();
        throw error;
      }
    },
    discard,
    [Symbol.asyncDispose]: discard,
  };
}

async function limitDisks(qmp: Qmp, disks: number, bytesPerSecond: number): Promise<void> {
  const none = { bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };
  for (let disk = 0; disk < disks; disk++) {
    await qmp.call("block_set_io_throttle", { id: diskDevice(disk), bps: bytesPerSecond, ...none });
  }
}

/** Resolves with the time when the state was loaded. */
async function load(qmp: Qmp): Promise<number> {
  const done = qmp.event("MIGRATION", {
    timeoutMs: loadTimeoutMs,
    accept: ({ status }) => status === "completed",
  });
  done.catch(() => {});
  // The event is missed when the load was over before the monitor was: then the status says so.
  const { status } = await qmp.call<{ status: string }>("query-status");
  if (status === "inmigrate") await done;
  return performance.now();
}

function used(id: string): SporeletError {
  const reason = "it was resumed or discarded before";
  return new SporeletError({ code: "failed_precondition", operation: "resume", subject: id, reason });
}
