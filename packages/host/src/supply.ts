/** Where a supply gets its goods from, and how it gets rid of them. */
export interface Source<T> {
  make(count: number): Promise<T[]>;
  remove(things: T[]): Promise<void>;
}

export interface SupplyOptions {
  /** How many are to be ready. */
  spare: number;
  /** How many are made at once; more would make the first wait for the last. Default: 4. */
  batchSize?: number;
  /** Told why things that nobody needs could not be removed: no caller is there to tell. Default: nobody is. */
  onError?(error: unknown): void;
}

/** Things that take a while to make, some of which are kept ready. */
export interface Supply<T> {
  /** One that is ready, or else one that is made now. */
  take(signal?: AbortSignal): Promise<T>;
  /** One that is ready, or nothing. */
  takeReady(): T | undefined;
  /** Those that are ready. */
  ready(): readonly T[];
  /** Takes one that was ready out of it, when it is not usable any more. It is not removed. */
  drop(thing: T): void;
  /** How many are to be ready from now on. Those that are too many are removed at once. */
  resize(spare: number): Promise<void>;
  /** Begins to make up to `spare` of them, and resolves when they are ready or making them has failed. */
  fill(): Promise<void>;
  /** Resolves when nothing is being made. */
  settled(): Promise<void>;
  /** Removes those that are ready; calls of `take` that wait fail with the error. */
  close(error: Error): Promise<void>;
}

/**
 * New ones are not made while more are likely to be taken: making them takes the CPU from the very clones
 * that are being resumed. A burst of resumes is further apart than this only when it is over.
 */
const quietMs = 300;
/** Where they never stop coming, new ones are made beside them. */
const longestMs = 1000;

export function createSupply<T>(source: Source<T>, options: SupplyOptions): Supply<T> {
  const { batchSize = 4, onError = () => {} } = options;
  let { spare } = options;
  const ready: T[] = [];
  const waiting = new Set<PromiseWithResolvers<T>>();
  let closed: Error | undefined;
  let filling = false;
  let working: Promise<void> | undefined;
  let quiet: NodeJS.Timeout | undefined;
  /** When what was taken is made anew at the latest; undefined when nothing was since that was begun last. */
  let refillBy: number | undefined;

  const wanted = () => (closed ? 0 : waiting.size || (filling ? spare - ready.length : 0));

  const makeWanted = async () => {
    for (let count = wanted(); count > 0; count = wanted()) {
      try {
        for (const thing of await source.make(Math.min(count, batchSize))) {
          const [first] = waiting;
          if (first === undefined) ready.push(thing);
          else {
            waiting.delete(first);
            first.resolve(thing);
          }
        }
      } catch (error) {
        // Without somebody who waits it is no loss: the next `take` meets the same error and reports it.
        for (const waiter of waiting) waiter.reject(error);
        waiting.clear();
        filling = false;
      }
      // Those who waited may have gone meanwhile, or fewer may be wanted.
      await source.remove(ready.splice(closed ? 0 : spare)).catch(onError);
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

  const calm = () => {
    clearTimeout(quiet);
    refillBy = undefined;
  };
  const fill = () => {
    calm();
    filling = true;
    return work();
  };

  const takeReady = () => {
    if (spare > 0 && !closed) {
      const now = performance.now();
      refillBy ??= now + longestMs;
      clearTimeout(quiet);
      quiet = setTimeout(fill, Math.min(quietMs, refillBy - now)).unref();
    }
    return ready.shift();
  };

  return {
    takeReady,
    async take(signal) {
      signal?.throwIfAborted();
      if (closed) throw closed;
      const thing = takeReady();
      if (thing !== undefined) return thing;
      const waiter = Promise.withResolvers<T>();
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
    drop(thing) {
      const index = ready.indexOf(thing);
      if (index >= 0) ready.splice(index, 1);
    },
    async resize(count) {
      spare = count;
      if (spare === 0) calm();
      await source.remove(ready.splice(spare));
    },
    fill,

    async settled() {
      await working;
    },

    async close(error) {
      closed = error;
      calm();
      for (const waiter of waiting) waiter.reject(error);
      waiting.clear();
      await working;
      await source.remove(ready.splice(0));
    },
  };
}
