import { SporeletError } from "@sporelet/errors";

export interface WaitOptions {
  /** What is being waited for, as SporeletError's `operation`. */
  operation: string;
  subject?: string | undefined;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * Awaits a promise no longer than `timeoutMs` and only until `signal` fires. What the promise stands for
 * goes on: the caller undoes it when that matters.
 *
 * @throws SporeletError `deadline_exceeded` or `cancelled`, or what the promise rejects with.
 */
export function within<T>(
  promise: Promise<T>,
  { operation, subject, timeoutMs, signal }: WaitOptions,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
    };
    const aborted = () => {
      settle();
      reject(cancelled(operation, subject, signal));
    };
    const timer = setTimeout(() => {
      settle();
      const reason = `it took longer than ${timeoutMs} ms`;
      reject(new SporeletError({ code: "deadline_exceeded", operation, subject, reason }));
    }, timeoutMs);
    // Even when this promise has settled before, a later rejection is taken care of here.
    promise.then(
      (value) => {
        settle();
        resolve(value);
      },
      (error) => {
        settle();
        reject(error);
      },
    );
    if (signal?.aborted) aborted();
    else signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** Throws `cancelled` when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, operation: string, subject?: string): void {
  if (signal?.aborted) throw cancelled(operation, subject, signal);
}

function cancelled(
  operation: string,
  subject: string | undefined,
  signal: AbortSignal | undefined,
): SporeletError {
  const cause: unknown = signal?.reason;
  if (cause instanceof Error && cause.name === "TimeoutError")
    return SporeletError.from(cause, { operation, subject });
  return new SporeletError({ code: "cancelled", operation, subject, reason: "it was cancelled", cause });
}
