import { unlessAborted } from "../together.ts";
import { createReports, type Reports } from "./reports.ts";

interface Going<T> {
  result: Promise<T>;
  /** Those who wait for it and hear of it. */
  callers: Set<Reports>;
  abort: AbortController;
}

/**
 * Lets callers that want the same thing at the same time share the work. Each hears what goes on from the time
 * that it came; the work is aborted when none of them waits any more, and its end is waited for.
 */
export function createShared<T>() {
  const all = new Map<string, Going<T>>();
  return async (
    key: string,
    work: (reports: Reports, signal: AbortSignal) => Promise<T>,
    reports: Reports,
    signal: AbortSignal,
  ): Promise<T> => {
    for (;;) {
      signal.throwIfAborted();
      const found = all.get(key);
      // One that is being aborted is over soon, and then begun anew.
      if (found?.abort.signal.aborted) {
        await unlessAborted(
          found.result.catch(() => {}),
          signal,
        );
        continue;
      }
      const going = found ?? begin(key, work);
      going.callers.add(reports);
      try {
        return await unlessAborted(going.result, signal);
      } finally {
        going.callers.delete(reports);
        if (going.callers.size === 0) {
          going.abort.abort(signal.reason);
          await going.result.catch(() => {}); // Whoever called it off finds nothing half-made.
        }
      }
    }
  };

  function begin(key: string, work: (reports: Reports, signal: AbortSignal) => Promise<T>): Going<T> {
    const callers = new Set<Reports>();
    const abort = new AbortController();
    const everybody = createReports((event) => {
      for (const caller of callers) caller.emit(event);
    });
    const result = work(everybody, abort.signal).finally(() => all.delete(key));
    const going = { result, callers, abort };
    all.set(key, going);
    return going;
  }
}
