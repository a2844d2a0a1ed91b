import type { Duplex } from "node:stream";
import type { CallOptions, Qmp } from "./qmp.ts";

const port = "agent";

/**
 * Returns the function that closes the agent channel and waits until the guest has closed and reopened its
 * end of it.
 *
 * QEMU tells both by VSERPORT_CHANGE, but sends that event at most once a second for one port, and of those
 * it held back only the last one (qemu: monitor/monitor.c, monitor_qapi_event_conf). So after "closed" one
 * look at the port shows whether it is open again, which it is as a rule; if it is not, the held-back event
 * comes within a second. When the closing itself was held back the one event that comes says "open".
 */
export function parking(qmp: Qmp): (channel: Duplex, options: CallOptions) => Promise<void> {
  // An event that is still held back from the last parking must not be taken for one of the next.
  let heldBack: Promise<unknown> | undefined;
  return async (channel, options) => {
    await heldBack;
    const changed = (open?: boolean) =>
      qmp.event("VSERPORT_CHANGE", {
        ...options,
        accept: (data) => data.id === port && (open === undefined || data.open === open),
      });
    const first = changed();
    channel.destroy();
    if ((await first).data.open === true) return;
    const reopened = changed(true);
    reopened.catch(() => {}); // Awaited below, or by the next parking, or not at all.
    if (await isOpen(qmp, options)) heldBack = reopened.catch(() => {});
    else await reopened;
  };
}

async function isOpen(qmp: Qmp, options: CallOptions): Promise<boolean> {
  const ports = await qmp.call<{ label: string; "frontend-open": boolean }[]>(
    "query-chardev",
    undefined,
    options,
  );
  return ports.some((chardev) => chardev.label === port && chardev["frontend-open"]);
}
