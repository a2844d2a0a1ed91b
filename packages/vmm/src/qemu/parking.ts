import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { CallOptions, Qmp } from "./qmp.ts";

const port = "agent";

/** How often to look at the port. Not on the way of a resume. */
const lookMs = 1;

/**
 * Returns the function that closes the agent channel and waits until the guest has closed and reopened its
 * end of it.
 *
 * QEMU tells both by VSERPORT_CHANGE, but sends that event at most once a second for one port, and of those
 * it held back only the last one (qemu: monitor/monitor.c, monitor_qapi_event_conf); a resume is such an event. So the
 * port is looked at besides. That it is closed shows for some milliseconds only: who misses it hears of it by the
 * event, within a second. When the closing itself was held back the one event that comes says "open". That it is open
 * again stays to be seen.
 *
 * An event that was held back since before, a second ago or by a monitor that nobody read, is known by its time: an
 * event has the time of what happened.
 */
export function parking(qmp: Qmp): (channel: Duplex, options: CallOptions) => Promise<void> {
  return async (channel, options) => {
    const begunAt = Date.now();
    const changed = qmp.event("VSERPORT_CHANGE", {
      ...options,
      accept: (data, at) => data.id === port && at >= begunAt,
    });
    let told: boolean | undefined;
    const hear = changed.then(({ data }) => {
      told = data.open === true;
    });
    hear.catch(() => {}); // Awaited below, or not at all.
    channel.destroy();
    await Promise.race([hear, look(qmp, options, (open) => !open || told !== undefined)]);
    if (told !== true) await look(qmp, options, (open) => open);
  };
}

/** Looks at the port until it is as it should be. */
async function look(qmp: Qmp, options: CallOptions, enough: (open: boolean) => boolean): Promise<void> {
  while (!enough(await isOpen(qmp, options))) await sleep(lookMs);
}

async function isOpen(qmp: Qmp, options: CallOptions): Promise<boolean> {
  const ports = await qmp.call<{ label: string; "frontend-open": boolean }[]>(
    "query-chardev",
    undefined,
    options,
  );
  return ports.some((chardev) => chardev.label === port && chardev["frontend-open"]);
}
