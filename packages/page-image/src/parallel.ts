/**
 * Runs `work` for each item, at most `lanes` at a time, each lane with a number (from 0) by which it finds the
 * buffers that are its own. The first failure ends it: no new work is begun, and it throws when what was
 * begun has ended, so that nobody writes into a buffer or a file afterwards.
 */
export async function inLanes<T>(
  items: Iterable<T>,
  lanes: number,
  work: (item: T, lane: number) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failure: { error: unknown } | undefined;
  const run = async (lane: number) => {
    while (failure === undefined) {
      try {
        signal?.throwIfAborted();
        const next = iterator.next();
        if (next.done) return;
        await work(next.value, lane);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)));
  if (failure !== undefined) throw failure.error;
}
