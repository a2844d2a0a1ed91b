import { type InspectedContainer, judge } from "./containers.ts";
import { followProject, inspectProject } from "./docker.ts";
import type { Guest } from "./guest.ts";
import { healthcheckTimers, quietEnoughMs, quietMs } from "./quiet-moment.ts";
import { NotUp } from "./wait-until-up.ts";

export interface SettleOptions {
  signal: AbortSignal;
  /** Called when a healthcheck has to be waited for. */
  onWait: () => void;
  /** The wall clock, milliseconds; the guest's was set from it. Default: Date.now. */
  now?: () => number;
}

/** Longer than Docker's default interval, so that every check was seen once. */
const longestWaitMs = 45_000;

/**
 * Makes sure that everything is still up, and ends in a moment that is good for a freeze (see quiet-moment.ts):
 * at once when the next healthcheck is far off, else right after one.
 * @throws NotUp when a container is not up any more
 */
export async function settle(
  guest: Guest,
  project: string,
  options: SettleOptions,
): Promise<InspectedContainer[]> {
  const { signal, onWait, now = Date.now } = options;
  const stop = new AbortController();
  const limit = AbortSignal.timeout(longestWaitMs);
  const ended: string[] = [];
  let wake = () => {};
  // Begun before the look, so that no end of a check falls in between.
  const following = followProject(guest, project, {
    sinceMs: now(),
    signal: AbortSignal.any([signal, stop.signal]),
    onEvent(name, container) {
      if (name !== "exec_die") return;
      ended.push(container);
      wake();
    },
  }).catch((error) => {
    if (!stop.signal.aborted) throw error;
  });
  following.catch(() => {});
  const over = new Promise<void>((resolve) =>
    limit.addEventListener("abort", () => resolve(), { once: true }),
  );
  try {
    const containers = await inspectProject(guest, project, signal);
    const verdict = judge(containers);
    if (!verdict.ready) throw new NotUp(containers, verdict);
    const timers = healthcheckTimers(containers);
    const enough = quietEnoughMs(timers);
    // What ended before the look is known from it.
    ended.length = 0;
    if (quietMs(timers, now()) >= enough) return containers;
    onWait();
    for (;;) {
      const { promise: event, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      await Promise.race([event, following, over]);
      signal.throwIfAborted();
      for (const id of ended.splice(0)) {
        const timer = timers.find(({ container }) => container === id);
        if (timer !== undefined) timer.endedMs = now();
      }
      if (limit.aborted || quietMs(timers, now()) >= enough) return containers;
    }
  } finally {
    stop.abort();
    await following.catch(() => {});
  }
}
