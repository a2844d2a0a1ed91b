import { createEventQueue } from "./event-queue.ts";

/**
 * Iterates the events of some work and returns its result. Whoever stops iterating has the work aborted;
 * what it had begun is cleared away, and what it made all the same is disposed of, before that returns.
 */
export async function* relay<E, T extends Disposable>(
  work: (onEvent: (event: E) => void, signal: AbortSignal) => Promise<T>,
): AsyncGenerator<E, T> {
  const events = createEventQueue<E>();
  const left = new AbortController();
  const going = work((event) => events.push(event), left.signal);
  void going.then(
    () => events.end(),
    (error: unknown) => events.end({ error }),
  );
  let finished = false;
  try {
    yield* events;
    const result = await going;
    finished = true;
    return result;
  } finally {
    if (!finished) {
      left.abort(new DOMException("the call ended", "AbortError"));
      const [outcome] = await Promise.allSettled([going]);
      if (outcome.status === "fulfilled") outcome.value[Symbol.dispose]();
    }
  }
}
