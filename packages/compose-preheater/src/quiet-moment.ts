/**
 * When to freeze: not just before a healthcheck. All clones of a snapshot go on from the same instant, so a
 * check that is due then runs in each of them at once, in competition with its first request. Pure.
 */
import type { InspectedContainer } from "./containers.ts";

export interface QuietMoment {
  /** How long to wait. */
  waitMs: number;
  /** How long no healthcheck is due after that; infinite without healthchecks. */
  quietMs: number;
}

/** The freeze takes a second or two, and then a clone's first requests are to be answered. */
const enoughMs = 6000;
/** Checks are not punctual, and the one that is due takes its time. */
const marginMs = 500;
/** Docker's default interval; with one check in that time every phase has been seen. */
const horizonMs = 30_000;

/**
 * The first moment that is quiet enough, or the quietest within half a minute.
 * @param nowMs the guest's wall clock
 */
export function quietMoment(containers: readonly InspectedContainer[], nowMs: number): QuietMoment {
  const checks = containers.flatMap((container) => checkOf(container, nowMs));
  const quietAt = (atMs: number) => Math.min(...checks.map((check) => nextAfter(check, atMs) - atMs));
  const candidates = [nowMs];
  for (const check of checks) {
    for (let at = check.dueMs; at < nowMs + horizonMs; at += check.intervalMs + check.durationMs) {
      candidates.push(at + check.durationMs + marginMs);
    }
  }
  candidates.sort((a, b) => a - b);
  let best = { waitMs: 0, quietMs: quietAt(nowMs) };
  for (const at of candidates) {
    const quietMs = quietAt(at);
    if (quietMs > best.quietMs) best = { waitMs: at - nowMs, quietMs };
    if (best.quietMs >= enoughMs) break;
  }
  return best;
}

interface Check {
  /** When it runs next. */
  dueMs: number;
  intervalMs: number;
  durationMs: number;
}

/** dockerd waits one interval after the end of a check before it begins the next (moby: daemon/health.go). */
function checkOf({ State, Config }: InspectedContainer, nowMs: number): Check[] {
  const intervalMs = (Config.Healthcheck?.Interval || 30e9) / 1e6;
  const last = State.Health?.Log?.at(-1);
  if (State.Status !== "running" || last?.End === undefined || last.Start === undefined) return [];
  const [startMs, endMs] = [Date.parse(last.Start), Date.parse(last.End)];
  if (Number.isNaN(startMs) || Number.isNaN(endMs)) return [];
  // One that is overdue runs right now.
  return [
    { dueMs: Math.max(endMs + intervalMs, nowMs), intervalMs, durationMs: Math.max(endMs - startMs, 0) },
  ];
}

/** When a check next runs, or runs still, at or after a moment. */
function nextAfter({ dueMs, intervalMs, durationMs }: Check, atMs: number): number {
  const period = intervalMs + durationMs;
  const round = Math.max(0, Math.floor((atMs - dueMs) / period));
  const began = dueMs + round * period;
  return atMs <= began ? began : atMs < began + durationMs ? atMs : began + period;
}
