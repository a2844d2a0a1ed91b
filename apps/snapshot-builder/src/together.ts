/**
 * Runs tasks at the same time. When one fails the others are aborted and waited for, so that nothing of them
 * goes on in the background; the first failure is thrown.
 */
export async function together<A, B>(
  signal: AbortSignal,
  tasks: readonly [(signal: AbortSignal) => Promise<A>, (signal: AbortSignal) => Promise<B>],
): Promise<[A, B]> {
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  let failure: { error: unknown } | undefined;
  const guarded = async <T>(task: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> => {
    try {
      return await task(both);
    } catch (error) {
      failure ??= { error };
      failed.abort();
      return undefined;
    }
  };
  const [first, second] = await Promise.all([guarded(tasks[0]), guarded(tasks[1])]);
  if (failure !== undefined) throw (failure as { error: unknown }).error;
  return [first as A, second as B];
}
