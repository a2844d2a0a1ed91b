import { unlessAborted } from "./together.ts";

/** One caller of work that is shared. */
export interface Sharer<E> {
  /** Told what goes on, from the latest event on when it came later. */
  onEvent(event: E): void;
  /** When it does not wait any more. */
  signal: AbortSignal;
}

interface Going<E, T> {
  result: Promise<T>;
  sharers: Set<Sharer<E>>;
  latest: { event: E } | undefined;
  abort: AbortController;
}

/**
 * Lets callers that want the same thing at the same time share the work. It is aborted when none of them waits
 * any more; whoever called it off returns once it has cleared up.
 */
export function createShared<E, T>() {
  const all = new Map<string, Going<E, T>>();
  return async (
    key: string,
    work: (sharer: Sharer<E>) => Promise<T>,
    { onEvent, signal }: Sharer<E>,
  ): Promise<T> => {
    for (;;) {
      signal.throwIfAborted();
      const found = all.get(key);
      if (found?.abort.signal.aborted) {
        // It is over soon, and then begun anew.
        const over = found.result.then(
          () => {},
          () => {},
        );
        await unlessAborted(over, signal);
        continue;
      }
      const sharer = { onEvent, signal };
      const going = found ?? begin(key, work);
      going.sharers.add(sharer);
      if (found?.latest !== undefined) onEvent(found.latest.event);
      try {
        return await unlessAborted(going.result, signal);
      } finally {
        going.sharers.delete(sharer);
        if (going.sharers.size === 0 && all.get(key) === going) {
          going.abort.abort(signal.reason);
          await going.result.catch(() => {});
        }
      }
    }
  };

  function begin(key: string, work: (sharer: Sharer<E>) => Promise<T>): Going<E, T> {
    const { promise, resolve } = Promise.withResolvers<T>();
    const going: Going<E, T> = {
      result: promise.finally(() => all.delete(key)),
      sharers: new Set(),
      latest: undefined,
      abort: new AbortController(),
    };
    all.set(key, going);
    const tellAll = (event: E) => {
      going.latest = { event };
      for (const { onEvent } of going.sharers) onEvent(event);
    };
    // Not before the one who begins it is among those who are told.
    queueMicrotask(() => resolve(work({ onEvent: tellAll, signal: going.abort.signal })));
    return going;
  }
}
