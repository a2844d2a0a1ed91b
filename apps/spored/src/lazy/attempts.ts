import { SporeletError } from "@sporelet/errors";

/** What came wrong may come right: a proxy in between may have been at fault. */
const attempts = 3;
/** The pause after the first failure to reach the registry; it doubles up to eight times that. */
const defaultRetryMs = 250;
const longestDoublings = 3;

/** Does something again that failed because what came was damaged, or was cut short. */
export async function withAttempts<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await task();
    } catch (error) {
      const { code } = SporeletError.from(error, { operation: "fetch" });
      const passing = code === "corrupt" || isPassing(code);
      if (!passing || attempt === attempts || signal.aborted) throw error;
    }
  }
}

export interface PatienceOptions {
  signal: AbortSignal;
  /** Told of each failure that is waited out, and with undefined of its end. */
  onProblem(problem: SporeletError | undefined): void;
  /** Default: 250. */
  retryMs?: number;
}

/** Does something until it succeeds, as long as only the registry is away: nobody has to be there to wait for it. */
export async function withPatience<T>(
  task: () => Promise<T>,
  { signal, onProblem, retryMs = defaultRetryMs }: PatienceOptions,
): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      const result = await task();
      if (failures > 0) onProblem(undefined);
      return result;
    } catch (error) {
      const ours = SporeletError.from(error, { operation: "fetch" });
      if (!isPassing(ours.code) || signal.aborted) throw error;
      onProblem(ours);
      await pauseAfter(failures + 1, retryMs, signal);
    }
  }
}

/** The registry cannot be reached, or is slow: it may come back. */
function isPassing(code: SporeletError["code"]): boolean {
  return code === "unavailable" || code === "deadline_exceeded";
}

/** Between attempts; the only event that could end it is the one that it is waited for. */
export function pauseAfter(failures: number, retryMs: number, signal: AbortSignal): Promise<void> {
  const ms = retryMs * 2 ** Math.min(failures - 1, longestDoublings);
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
  });
}
