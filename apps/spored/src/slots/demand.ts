/** How much a snapshot is asked for: a count that halves every `halfLifeMs`. */
export interface Demand {
  /** Somebody asked for one. */
  arrived(nowMs: number): void;
  /** How many slots that is worth: as many as were asked for of late, at least one. */
  slots(nowMs: number): number;
}

/** After a minute without further requests half as many are kept, after ten the last one only. */
export const halfLifeMs = 60_000;

/** Pure but for what it was told. */
export function createDemand(): Demand {
  let level = 0;
  let asOfMs = Number.NEGATIVE_INFINITY;
  const at = (nowMs: number) => level * 2 ** (-Math.max(0, nowMs - asOfMs) / halfLifeMs);
  return {
    arrived(nowMs) {
      level = (level === 0 ? 0 : at(nowMs)) + 1;
      asOfMs = nowMs;
    },
    slots: (nowMs) => Math.max(1, Math.round(level === 0 ? 0 : at(nowMs))),
  };
}
