/** Knows the calls that were cancelled and are not yet done with clearing up. */
export interface Settling {
  /** A call begins; dispose of it when it has ended and cleared up. */
  begin(signal: AbortSignal): Disposable;
  /** Resolves when no call that is cancelled by now still goes on. */
  settled(): Promise<void>;
}

export function createSettling(): Settling {
  const calls = new Map<Promise<void>, AbortSignal>();
  return {
    begin(signal) {
      const { promise, resolve } = Promise.withResolvers<void>();
      calls.set(promise, signal);
      return {
        [Symbol.dispose]() {
          calls.delete(promise);
          resolve();
        },
      };
    },
    async settled() {
      // A cancellation that arrived together with this request is known a turn later.
      await new Promise((resolve) => setImmediate(resolve));
      await Promise.all([...calls].flatMap(([call, signal]) => (signal.aborted ? [call] : [])));
    },
  };
}
