/** Knows the calls that were cancelled and are not yet done with clearing up. */
export interface Settling {
  /**
   * A call begins; dispose of it when it has ended and cleared up.
   *
   * @param connection whose call it is; compared by identity
   */
  begin(signal: AbortSignal, connection?: unknown): Disposable;
  /**
   * Resolves when no call that is cancelled still goes on. The cancellation of a call of the same connection may
   * arrive behind the request for this: HTTP/2 clients reset a stream when they have nothing more to write. It is
   * waited for, for a moment.
   */
  settled(connection?: unknown): Promise<void>;
}

interface Call {
  signal: AbortSignal;
  connection: unknown;
  ended: Promise<void>;
}

/** A reset that was sent arrives within milliseconds; a call that goes on all the same was not cancelled. */
const graceMs = 1000;

export function createSettling(): Settling {
  const calls = new Set<Call>();
  return {
    begin(signal, connection) {
      const { promise: ended, resolve } = Promise.withResolvers<void>();
      const call = { signal, connection, ended };
      calls.add(call);
      return {
        [Symbol.dispose]() {
          calls.delete(call);
          resolve();
        },
      };
    },
    async settled(connection) {
      const others = [...calls].filter(
        (call) => !call.signal.aborted && connection !== undefined && call.connection === connection,
      );
      await Promise.all(others.map((call) => cancelledOrOver(call)));
      await Promise.all([...calls].flatMap(({ ended, signal }) => (signal.aborted ? [ended] : [])));
    },
  };
}

async function cancelledOrOver({ signal, ended }: Call): Promise<void> {
  const { promise: cancelled, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, graceMs);
  signal.addEventListener("abort", () => resolve(), { once: true });
  await Promise.race([cancelled, ended]);
  clearTimeout(timer);
}
