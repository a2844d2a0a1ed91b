import { readdir, readFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { cpuTimeMs } from "./stats.ts";
import { suspendMachine } from "./suspend.ts";

/**
 * A guest that has used more than this of one core since the last connection or call works for itself. Health
 * checks and timers stay below it, on a host that emulates too.
 */
const workingShare = 0.5;
/** And so does one that always wants to run, however little of the host it gets. */
const wantingShare = 0.9;

/**
 * Suspends a machine that now lives when it has been idle for as long as it was started with: no connection through
 * its published ports was open, no call into it went on, and its guest did not work. All but the last are events;
 * that is looked at twice, when the calm begins and when it has lasted.
 */
export function watchIdle(node: Node, machine: ManagedMachine): void {
  const { idleness, live } = machine;
  if (idleness === undefined || live === undefined) return;
  let atRest: { load: Promise<Load>; at: number } | undefined;
  const asleep = async (): Promise<void> => {
    if (atRest === undefined || machine.record.state !== "running") return;
    const [before, now] = [await atRest.load, await loadOf(live.vm.pid)];
    const elapsedMs = performance.now() - atRest.at;
    const usedMs = now.usedMs - before.usedMs;
    const wantedMs = usedMs + now.waitedMs - before.waitedMs;
    if (usedMs > workingShare * elapsedMs || wantedMs > wantingShare * elapsedMs) return;
    await suspendMachine(node, machine, { signal: node.shutdown, unless: () => idleness.busy });
  };
  idleness.watch({
    onRest() {
      atRest = { load: loadOf(live.vm.pid), at: performance.now() };
    },
    onIdle() {
      void asleep()
        .catch((error) => {
          const ours = SporeletError.from(error, { operation: "suspend", subject: machine.name });
          node.log.error("idle machine not suspended", ours, { machine: machine.name, id: machine.id });
        })
        // It goes on: called off, not possible, or at work.
        .then(() => machine.live === live && watchIdle(node, machine));
    },
  });
}

/** Time that the threads of a process ran, and that they waited for a CPU. */
interface Load {
  usedMs: number;
  waitedMs: number;
}

async function loadOf(pid: number): Promise<Load> {
  const [usedMs, waitedMs] = await Promise.all([cpuTimeMs(pid), waitedTimeMs(pid)]);
  return { usedMs, waitedMs };
}

/** The second field of schedstat of its threads, nanoseconds (Documentation/scheduler/sched-stats.rst of Linux). */
async function waitedTimeMs(pid: number): Promise<number> {
  const directory = `/proc/${pid}/task`;
  const threads = await readdir(directory).catch(() => []);
  const stats = await Promise.all(
    threads.map((thread) => readFile(`${directory}/${thread}/schedstat`, "latin1").catch(() => "")),
  );
  return stats.reduce((sum, text) => sum + Number(text.split(" ")[1] ?? 0), 0) / 1e6;
}
