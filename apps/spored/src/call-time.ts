/** The time that a call may take. */
export interface CallTime {
  /**
   * Aborts a part of the call: when the caller goes away, or when the time that was asked for is over; where
   * none was, `defaultMs` after the part began.
   */
  atMost(defaultMs: number): AbortSignal;
}

/** @param requestedMs of the whole call; 0: none, so that each of its parts has its own default */
export function callTime(caller: AbortSignal, requestedMs: number): CallTime {
  const whole = requestedMs > 0 ? deadline(caller, requestedMs) : undefined;
  return { atMost: (defaultMs) => whole ?? deadline(caller, defaultMs) };
}

function deadline(signal: AbortSignal, timeoutMs: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
}
