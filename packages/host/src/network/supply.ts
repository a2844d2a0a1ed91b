/** Where a supply gets its goods from, and how it gets rid of them. */
export interface Source {
  make(count: number): Promise<string[]>;
  remove(names: string[]): Promise<void>;
}

/** Things that take a while to make, some of which are kept ready. */
export interface Supply {
  /** One that is ready, or else one that is made now. */
  take(signal?: AbortSignal): Promise<string>;
  /** Names of those that are ready. */
  ready(): readonly string[];
  /** Begins to make up to `spare` of them, and resolves when they are ready or making them has failed. */
  fill(): Promise<void>;
  /** Resolves when nothing is being made. */
  settled(): Promise<void>;
  /** Removes those that are ready; calls of `take` that wait fail with the error. */
  close(error: Error): Promise<void>;
}

/** More at once would make the first wait for the last. */
const batchSize = 4;
/**
 * New ones are not made while more are likely to be taken: making them takes the CPU from the very clones
 * that are being resumed. A burst of resumes is further apart than this only when it is over.
 */
const quietMs = 300;

export function createSupply(source: Source, spare: number): Supply {
  const ready: string[] = [];
  const waiting = new Set<PromiseWithResolvers<string>>();
  let closed: Error | undefined;
  let filling = false;
  let working: Promise<void> | undefined;
  let quiet: NodeJS.Timeout | undefined;

  const wanted = () => (closed ? 0 : waiting.size || (filling ? spare - ready.length : 0));

  const makeWanted = async () => {
    for (let count = wanted(); count > 0; count = wanted()) {
      try {
        for (const name of await source.make(Math.min(count, batchSize))) {
          const [first] = waiting;
          if (first === undefined) ready.push(name);
          else {
            waiting.delete(first);
            first.resolve(name);
          }
        }
      } catch (error) {
        // Without somebody who waits it is no loss: the next `take` meets the same error and reports it.
        for (const waiter of waiting) waiter.reject(error);
        waiting.clear();
        filling = false;
      }
      // Those who waited may have gone meanwhile.
      await source.remove(ready.splice(closed ? 0 : spare));
    }
    filling = false;
  };

  const work = (): Promise<void> => {
    working ??= makeWanted().finally(() => {
      working = undefined;
      if (wanted() > 0) void work(); // Asked for after the last look.
    });
    return working;
  };

  const fill = () => {
    clearTimeout(quiet);
    filling = true;
    return work();
  };

  return {
    async take(signal) {
      signal?.throwIfAborted();
      if (closed) throw closed;
      if (spare > 0) {
        clearTimeout(quiet);
        quiet = setTimeout(fill, quietMs).unref();
      }
      const name = ready.shift();
      if (name !== undefined) return name;
      const waiter = Promise.withResolvers<string>();
      waiting.add(waiter);
      const leave = () => {
        if (waiting.delete(waiter)) waiter.reject(signal?.reason);
      };
      signal?.addEventListener("abort", leave, { once: true });
      void work();
      try {
        return await waiter.promise;
      } finally {
        signal?.removeEventListener("abort", leave);
      }
    },

    ready: () => ready,
    fill,

    async settled() {
      await working;
    },

    async close(error) {
      closed = error;
      clearTimeout(quiet);
      for (const waiter of waiting) waiter.reject(error);
      waiting.clear();
      await working;
      await source.remove(ready.splice(0));
    },
  };
}
