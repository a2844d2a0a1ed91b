/**
 * When to freeze: just after a healthcheck, not just before one. All clones of a snapshot go on from the same
 * instant, so a check that is due, or in flight, then runs in each of them at once, in competition with its
 * first request. Pure.
 */
import type { InspectedContainer } from "./containers.ts";

export interface HealthcheckTimer {
  container: string;
  intervalMs: number;
  /** When its last check ended. */
  endedMs: number;
}

/** The freeze takes a second or two, and then a clone's first requests are to be answered. */
const enoughMs = 7000;
const defaultIntervalMs = 30_000;

/** The timers of all containers with a healthcheck; those without, or without a result yet, have none. */
export function healthcheckTimers(containers: readonly InspectedContainer[]): HealthcheckTimer[] {
  return containers.flatMap(({ Id, State, Config }) => {
    const endedMs = Date.parse(State.Health?.Log?.at(-1)?.End ?? "");
    if (State.Status !== "running" || Number.isNaN(endedMs)) return [];
    return [
      { container: Id, endedMs, intervalMs: (Config.Healthcheck?.Interval || 0) / 1e6 || defaultIntervalMs },
    ];
  });
}

/**
 * How long no healthcheck runs from a moment on; zero when one runs, infinite when there is none. dockerd
 * waits one interval after the end of a check before it begins the next (moby: daemon/health.go).
 */
export function quietMs(timers: readonly HealthcheckTimer[], nowMs: number): number {
  return Math.max(0, Math.min(...timers.map(({ endedMs, intervalMs }) => endedMs + intervalMs - nowMs)));
}

/** What is quiet enough: with short intervals less than one would like. */
export function quietEnoughMs(timers: readonly HealthcheckTimer[]): number {
  return Math.min(enoughMs, ...timers.map(({ intervalMs }) => intervalMs / 2));
}
