/** Carries events from a callback to whoever iterates, in order. */
export interface EventQueue<T> {
  push(event: T): void;
  /** No more events; iterating ends after those that are there, with the error when one is given. */
  end(failure?: { error: unknown }): void;
  [Symbol.asyncIterator](): AsyncGenerator<T>;
}

export function createEventQueue<T>(): EventQueue<T> {
  const events: T[] = [];
  let ended: { failure: { error: unknown } | undefined } | undefined;
  let wake = () => {};
  return {
    push(event) {
      events.push(event);
      wake();
    },
    end(failure) {
      ended ??= { failure };
      wake();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        while (events.length > 0) yield events.shift() as T;
        if (ended?.failure) throw ended.failure.error;
        if (ended) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
