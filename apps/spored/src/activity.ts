/** Counts what keeps spored alive, and tells when there has been nothing for a while. */
export interface Activity {
  /** Something begins that keeps spored alive until it is disposed of. */
  begin(): Disposable;
  /** Aborted when spored has been idle for the given time. */
  readonly idle: AbortSignal;
  [Symbol.dispose](): void;
}

/** @param idleExitMs how long nothing may go on; 0: for ever. Counting starts at once. */
export function createActivity(idleExitMs: number): Activity {
  const idle = new AbortController();
  let running = 0;
  let timer: NodeJS.Timeout | undefined;
  const rest = () => {
    if (idleExitMs > 0) timer = setTimeout(() => idle.abort(), idleExitMs);
  };
  rest();
  return {
    begin() {
      clearTimeout(timer);
      running += 1;
      let ended = false;
      return {
        [Symbol.dispose]() {
          if (ended) return;
          ended = true;
          running -= 1;
          if (running === 0) rest();
        },
      };
    },
    idle: idle.signal,
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
