import { type InspectedContainer, judge, serviceOf, type Verdict } from "./containers.ts";
import { followProject, inspectProject } from "./docker.ts";
import type { Guest } from "./guest.ts";

export interface WaitOptions {
  /** Wall clock, milliseconds, before the containers were started. */
  sinceMs: number;
  signal: AbortSignal;
  onProgress: (fraction: number, detail: string) => void;
}

/** Ended by a container that will not come up, with how things stood. */
export class NotUp extends Error {
  override readonly name = "NotUp";
  readonly containers: InspectedContainer[];
  readonly verdict: Verdict;

  constructor(containers: InspectedContainer[], verdict: Verdict) {
    super("a container did not come up");
    this.containers = containers;
    this.verdict = verdict;
  }
}

/**
 * Waits until every container of a project runs and is healthy: looks once, and again after each event.
 * @throws NotUp when one failed; the signal's reason when it aborts
 */
export async function waitUntilUp(
  guest: Guest,
  project: string,
  { sinceMs, signal, onProgress }: WaitOptions,
): Promise<InspectedContainer[]> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  let wake = () => {};
  let changed = true;
  const following = followProject(guest, project, {
    sinceMs,
    signal: both,
    onEvent(name) {
      // Healthchecks make these in between; only their outcome counts.
      if (name.startsWith("exec_")) return;
      changed = true;
      wake();
    },
  });
  // It ends only by failing; the loop below waits for that too.
  const broken = following.catch((error) => {
    if (!stop.signal.aborted) throw error;
  });
  broken.catch(() => {});
  try {
    for (;;) {
      changed = false;
      const containers = await inspectProject(guest, project, signal);
      const verdict = judge(containers);
      if (verdict.failed !== undefined) throw new NotUp(containers, verdict);
      if (verdict.ready) return containers;
      onProgress(
        verdict.fraction,
        verdict.waiting.map(({ container, why }) => `${serviceOf(container)}: ${why}`).join(", "),
      );
      if (changed) continue;
      const { promise: event, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      await Promise.race([event, broken]);
    }
  } finally {
    stop.abort();
    await broken.catch(() => {});
  }
}
