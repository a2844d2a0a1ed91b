import { SporeletError } from "@sporelet/errors";
import { processStartTicks } from "@sporelet/host";
import type { Machine, MachineRecord } from "../contract.ts";
import { logsOf, socketsOf } from "./command-line.ts";
import { explainEnd } from "./explain.ts";
import { logTail } from "./log.ts";
import { connectTo, qemuMachine, removeSockets } from "./machine.ts";
import { endsWithin } from "./pidfd.ts";
import type { ProcessEnd, QemuProcess } from "./process.ts";
import { openQmp } from "./qmp.ts";

/** A machine that is given up is lost: longer than any host that is merely busy takes. */
const attachTimeoutMs = 30_000;
/** From the end of the monitor connection to the end of the process. */
const endTimeoutMs = 5_000;

/**
 * Takes over a machine that another process started, by the monitor's socket. QEMU serves one such
 * connection at a time: while another process holds it this ends in `deadline_exceeded`.
 */
export async function attachQemu(record: MachineRecord, signal?: AbortSignal): Promise<Machine | undefined> {
  const operation = "attach to";
  const { id, pid } = record;
  const isAlive = async () => (await processStartTicks(pid)) === record.startTicks;
  const gone = async () => {
    await removeSockets(record);
    return undefined;
  };
  if (!(await isAlive())) return await gone();

  const exited = Promise.withResolvers<ProcessEnd>();
  const process: QemuProcess = {
    pid,
    exited: exited.promise,
    kill: () => kill(pid),
  };
  let taken = true;
  try {
    const monitor = await connectTo(socketsOf(record).monitor, operation, id, signal);
    monitor.once("close", async () => {
      // It is not our child: the end of the monitor announces its end. What stays without a monitor cannot
      // be controlled any more, and is ended.
      if (!(await endsWithin(pid, endTimeoutMs)) && taken && (await isAlive().catch(() => false))) kill(pid);
      exited.resolve({});
    });
    const qmp = await openQmp(monitor, {
      subject: id,
      timeoutMs: attachTimeoutMs,
      signal,
      explainEnd: async () =>
        explainEnd("talk to", id, await exited.promise, await logTail(logsOf(record).vmm)),
    });
    return qemuMachine({ record, process, qmp });
  } catch (error) {
    taken = false;
    if (!(await isAlive())) return await gone();
    throw SporeletError.from(error, { operation, subject: id });
  }
}

function kill(pid: number): void {
  try {
    globalThis.process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
