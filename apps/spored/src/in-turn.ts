/**
 * Runs a task behind a gate, with a limit of time that begins when its turn has come: of many that come at once the
 * last ones are late, not refused.
 *
 * @param options.timeoutMs for the task alone, however long it waited
 */
export async function inTurn<T>(
  gate: (task: () => Promise<T>) => Promise<T>,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return await gate(async () => {
    signal.throwIfAborted();
    return await task(AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
  });
}
