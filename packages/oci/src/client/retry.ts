import { setTimeout as delay } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import type { RetryEvent, RetryPolicy } from "./options.ts";

/** What is being done to what, for errors and events. */
export interface OperationContext {
  operation: string;
  subject: string;
}

/** A failure after which the same may be tried again. `error` is thrown when it is not. */
export class Transient extends Error {
  readonly error: SporeletError;
  /** What the registry asked for. */
  readonly retryAfterMs: number | undefined;

  constructor(error: SporeletError, retryAfterMs?: number) {
    super(error.message);
    this.error = error;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The attempts at one operation, which may take several requests. */
export interface Attempts {
  /** Runs `attempt` until it succeeds, fails for good, or has failed too often. */
  run<T>(attempt: () => Promise<T>): Promise<T>;
  /** Waits before what failed is tried again; throws when it is not to be. */
  failed(failure: unknown): Promise<void>;
  /** Something arrived: the count of failures and the deadline begin anew. */
  progressed(): void;
}

export interface RetryOptions {
  policy: RetryPolicy;
  context: OperationContext;
  signal: AbortSignal | undefined;
  onRetry: (why: string, event: RetryEvent) => void;
}

export function createAttempts({ policy, context, signal, onRetry }: RetryOptions): Attempts {
  let failures = 0;
  let since = performance.now();

  const failed = async (failure: unknown): Promise<void> => {
    if (signal?.aborted) throw SporeletError.from(signal.reason, context);
    if (!(failure instanceof Transient)) throw SporeletError.from(failure, context);
    failures += 1;
    const delayMs = delayBefore(failures, failure.retryAfterMs, policy, Math.random());
    if (failures >= policy.attempts) throw failure.error;
    if (performance.now() - since + delayMs > policy.deadlineMs) throw failure.error;
    onRetry(failure.error.reason, { ...context, failures, delayMs });
    await delay(delayMs, undefined, { signal }).catch(() => undefined);
    if (signal?.aborted) throw SporeletError.from(signal.reason, context);
  };

  return {
    failed,
    progressed() {
      failures = 0;
      since = performance.now();
    },
    async run(attempt) {
      for (;;) {
        try {
          return await attempt();
        } catch (failure) {
          await failed(failure);
        }
      }
    },
  };
}

/**
 * Exponential backoff with full jitter: anything between nothing and a bound that doubles, so that many clients
 * that failed at once do not come back at once (Brooker, "Exponential Backoff And Jitter", 2015). What the
 * registry asks for is a lower bound.
 *
 * @param random in [0, 1)
 */
export function delayBefore(
  failures: number,
  retryAfterMs: number | undefined,
  policy: RetryPolicy,
  random: number,
): number {
  const bound = Math.min(policy.longestDelayMs, policy.firstDelayMs * 2 ** (failures - 1));
  const own = Math.round(random * bound);
  return retryAfterMs === undefined ? own : Math.min(retryAfterMs, policy.longestRetryAfterMs) + own;
}

/** Retry-After (RFC 9110, 10.2.3): seconds, or a date. Undefined when it is neither. */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}
