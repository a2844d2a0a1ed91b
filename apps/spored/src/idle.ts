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

/**
 * Suspends a machine that now lives when it has been idle for as long as it was started with: no connection through
 * its published ports was open, no call into it went on, and its VMM used less than half a core. All but the last
 * are events; the CPU time is looked at twice, when the calm begins and when it has lasted.
 */
export function watchIdle(node: Node, machine: ManagedMachine): void {
  const { idleness, live } = machine;
  if (idleness === undefined || live === undefined) return;
  let atRest = { cpuMs: Promise.resolve(0), at: 0 };
  const asleep = async (): Promise<void> => {
    if (machine.record.state !== "running") return;
    const usedMs = (await cpuTimeMs(live.vm.pid)) - (await atRest.cpuMs);
    if (usedMs > workingShare * (performance.now() - atRest.at)) return;
    await suspendMachine(node, machine, { signal: node.shutdown, unless: () => idleness.busy });
  };
  idleness.watch({
    onRest() {
      atRest = { cpuMs: cpuTimeMs(live.vm.pid), at: performance.now() };
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
