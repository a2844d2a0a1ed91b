/** How much a snapshot is asked for: a count that halves every `halfLifeMs`. */
export interface Demand {
  /** Somebody asked for one. */
  arrived(nowMs: number): void;
  /** How many slots that is worth: as many as were asked for of late, at least one; none when nobody asks any more. */
  slots(nowMs: number): number;
}

/** After a minute without further requests half as many are kept, after ten the last one only. */
export const halfLifeMs = 60_000;
/** After half an hour without any the last one goes too. It comes back with the next. */
export const coldAfterMs = 30 * halfLifeMs;

/**
 * Pure but for what it was told.
 * @param sinceMs when somebody began to care, who is taken to ask for one soon
 */
export function createDemand(sinceMs: number): Demand {
  let level = 0;
  let asOfMs = sinceMs;
  const at = (nowMs: number) => level * 2 ** (-Math.max(0, nowMs - asOfMs) / halfLifeMs);
  return {
    arrived(nowMs) {
      level = at(nowMs) + 1;
      asOfMs = nowMs;
    },
    slots: (nowMs) => (nowMs - asOfMs > coldAfterMs ? 0 : Math.max(1, Math.round(at(nowMs)))),
  };
}
