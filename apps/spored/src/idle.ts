import { SporeletError } from "@sporelet/errors";
import { type LoadSample, sampleLoad, worksByItself } from "./load.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { suspendMachine } from "./suspend.ts";

/**
 * Suspends a machine that now lives when it has been idle for as long as it was started with: no connection through
 * its published ports was open, no call into it went on, and its guest did not work. All but the last are events;
 * that is looked at twice, when the calm begins and when it has lasted.
 */
export function watchIdle(node: Node, machine: ManagedMachine): void {
  const { idleness, live } = machine;
  if (idleness === undefined || live === undefined) return;
  let atRest: Promise<LoadSample> | undefined;
  const asleep = async (): Promise<void> => {
    if (atRest === undefined || machine.record.state !== "running") return;
    if (worksByItself(await atRest, await sampleLoad(live.vm.pid))) return;
    await suspendMachine(node, machine, { signal: node.shutdown, unless: () => idleness.busy });
  };
  idleness.watch({
    onRest() {
      atRest = sampleLoad(live.vm.pid);
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
