/** When to try again what has failed. */
export interface Backoff {
  failed(nowMs: number): void;
  /** How long to wait from now on; 0: not at all. */
  waitMs(nowMs: number): number;
  /** Somebody wants it now. */
  reset(): void;
}

/** Without a failure for so long after a wait, the next one is the first again. */
export const steadyMs = 60_000;
/** What follows the second failure; each further one doubles it. */
export const firstWaitMs = 10_000;
export const longestWaitMs = 300_000;

/**
 * One failure is no reason to wait: somebody may have ended a process. Those that follow it are, because what ends
 * one slot after the other, lack of memory above all, only gets worse by new ones. Pure but for what it was told.
 */
export function createBackoff(): Backoff {
  let failures = 0;
  let untilMs = Number.NEGATIVE_INFINITY;
  return {
    failed(nowMs) {
      if (nowMs < untilMs) return; // Nothing was tried since: it belongs to the failure before.
      if (nowMs - untilMs > steadyMs) failures = 0;
      failures += 1;
      untilMs = nowMs + (failures === 1 ? 0 : Math.min(firstWaitMs * 2 ** (failures - 2), longestWaitMs));
    },
    waitMs: (nowMs) => Math.max(0, untilMs - nowMs),
    reset() {
      failures = 0;
      untilMs = Number.NEGATIVE_INFINITY;
    },
  };
}
