import { randomInt } from "node:crypto";

/** Numbers that look random, and are the same again for the same seed. */
export interface Random {
  readonly seed: number;
  /** In [0, 1). */
  next(): number;
}

/** @param seed Default: SPORELET_TEST_SEED, else any. */
export function createRandom(seed = Number(process.env.SPORELET_TEST_SEED ?? randomInt(2 ** 31))): Random {
  let state = seed >>> 0;
  return {
    seed,
    // mulberry32 (Tommy Ettinger, public domain).
    next() {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    },
  };
}
