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
    const { retryAfterMs = 0 } = failure;
    const delayMs = delayBefore(failures, retryAfterMs, policy, Math.random());
    const tooLate = performance.now() - since + delayMs > policy.deadlineMs;
    // Asked sooner than it wants, a registry that limits rates only begins to count anew.
    if (retryAfterMs > policy.longestRetryAfterMs || (retryAfterMs > 0 && tooLate)) {
      throw withPatience(failure.error, retryAfterMs);
    }
    if (failures >= policy.attempts || tooLate) throw failure.error;
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
 * @param retryAfterMs what the registry asks for; 0 when it does not
 * @param random in [0, 1)
 */
export function delayBefore(
  failures: number,
  retryAfterMs: number,
  policy: RetryPolicy,
  random: number,
): number {
  const bound = Math.min(policy.longestDelayMs, policy.firstDelayMs * 2 ** (failures - 1));
  return retryAfterMs + Math.round(random * bound);
}

/** The same error, with the time that the registry wants to pass first. */
function withPatience(error: SporeletError, retryAfterMs: number): SporeletError {
  const wait = durationOf(retryAfterMs);
  const { code, operation, subject, reason } = error;
  return new SporeletError({
    ...{ code, operation, subject },
    reason: `${reason}; it asks to wait ${wait} before the next attempt`,
    hint: `try again in ${wait}`,
    cause: error,
  });
}

/** Rounded up, so that nobody comes too early. */
function durationOf(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds <= 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}

/** Retry-After (RFC 9110, 10.2.3): seconds, or a date. Undefined when it is neither. */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}
