/** What a wall clock is read from. */
export interface ClockSources {
  /** Whole milliseconds since the epoch, rounded down; steps when the host's clock is set. */
  date(): number;
  /** Milliseconds with a fraction that only go up; stands still while the host sleeps. */
  monotonic(): number;
}

const ownSources: ClockSources = { date: () => Date.now(), monotonic: () => performance.now() };

/**
 * The host's wall clock with a fraction of milliseconds: Date.now() alone is half a millisecond late in the mean.
 * The fraction is the monotonic clock's. How far the two are apart is found out anew at each look, to less than a
 * millisecond, because it changes when the clock is set or the host has slept.
 *
 * @returns reads it, milliseconds since the epoch
 */
export function createWallClock(sources: ClockSources = ownSources): () => number {
  let apart = Number.NEGATIVE_INFINITY;
  return () => {
    const monotonic = sources.monotonic();
    const least = sources.date() - monotonic;
    // The true distance is in [least, least + 1); the one known before is kept if it can still be that.
    if (apart < least || apart > least + 1) apart = apart < least ? least : least + 1;
    return monotonic + apart;
  };
}
