/**
 * Ends a request on which nothing moves. It counts only while it is armed: a consumer that takes its time with
 * what arrived is not the peer's fault.
 */
export interface Watchdog extends Disposable {
  /** Aborted when nothing moved for too long, or when the caller's signal is. */
  readonly signal: AbortSignal;
  /** True once it has bitten. */
  readonly expired: boolean;
  /** Begins to wait, or to wait anew. */
  arm(timeoutMs?: number): void;
  disarm(): void;
}

export function createWatchdog(idleTimeoutMs: number, signal: AbortSignal | undefined): Watchdog {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let expired = false;
  const onAbort = () => controller.abort(signal?.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  const disarm = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  return {
    signal: controller.signal,
    get expired() {
      return expired;
    },
    arm(timeoutMs = idleTimeoutMs) {
      disarm();
      timer = setTimeout(() => {
        expired = true;
        controller.abort(new Error("nothing moved"));
      }, timeoutMs);
    },
    disarm,
    [Symbol.dispose]() {
      disarm();
      signal?.removeEventListener("abort", onAbort);
    },
  };
}
