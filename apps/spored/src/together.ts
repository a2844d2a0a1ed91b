/**
 * Waits until all promises have settled, then gives their values or throws the first error. Unlike
 * Promise.all, nothing is still going on when it returns, so that what was made can be undone.
 */
export async function together<const T extends readonly unknown[]>(
  promises: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  let failure: { error: unknown } | undefined;
  const watched = promises.map((promise) =>
    Promise.resolve(promise).catch((error: unknown) => {
      failure ??= { error };
    }),
  );
  const values = await Promise.all(watched);
  if (failure !== undefined) throw failure.error;
  return values as { -readonly [K in keyof T]: Awaited<T[K]> };
}

/** As `together`, but when one task fails the others are called off. */
export async function allOrStop<T>(
  tasks: readonly ((signal: AbortSignal) => Promise<T>)[],
  signal: AbortSignal,
): Promise<T[]> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const watched = tasks.map(async (task) => {
    try {
      return await task(either);
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  return await together(watched);
}

/** Runs a task when it is its turn. Whoever still waits for that when the signal aborts is told so, and is out of the line. */
type Gate = <T>(task: () => Promise<T>, signal?: AbortSignal) => Promise<T>;

/** Lets at most `limit` tasks run at a time, in the order of their coming. */
export function createGate(limit: number): Gate {
  let free = limit;
  const waiting = new Set<() => void>();

  const turn = async (signal: AbortSignal | undefined): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.add(resolve);
    try {
      await unlessAborted(promise, signal);
    } catch (error) {
      // Its turn may have come in the moment in which it left.
      if (!waiting.delete(resolve)) passOn();
      throw error;
    }
  };
  /** The place passes straight to the next one. */
  const passOn = (): void => {
    const [next] = waiting;
    if (next === undefined) free += 1;
    else {
      waiting.delete(next);
      next();
    }
  };

  return async (task, signal) => {
    signal?.throwIfAborted();
    if (free > 0) free -= 1;
    else await turn(signal);
    try {
      return await task();
    } finally {
      passOn();
    }
  };
}

/** Runs tasks with the same key one after the other, others side by side. Signals are as those of a gate. */
export function createQueues(): <T>(key: string, task: () => Promise<T>, signal?: AbortSignal) => Promise<T> {
  const gates = new Map<string, { run: Gate; users: number }>();
  return async (key, task, signal) => {
    const gate = gates.get(key) ?? { run: createGate(1), users: 0 };
    gates.set(key, gate);
    gate.users += 1;
    try {
      return await gate.run(task, signal);
    } finally {
      gate.users -= 1;
      if (gate.users === 0) gates.delete(key);
    }
  };
}

/** Results in the order in which they come; when one fails, that error, after the results before it. */
export async function* asTheyCome<T>(promises: readonly Promise<T>[]): AsyncGenerator<T> {
  const pending = new Map(
    promises.map((promise, index) => [index, promise.then((value) => ({ index, value }))]),
  );
  while (pending.size > 0) {
    const { index, value } = await Promise.race(pending.values());
    pending.delete(index);
    yield value;
  }
}

/** Waits for a promise that goes on for others, but no longer than the signal allows. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
