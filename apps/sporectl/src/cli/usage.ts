import { SporeletError } from "@sporelet/errors";

/**
 * A wrong call, found by a parser of one value; it does not know which command it belongs to. What catches
 * it adds that.
 */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly hint: string | undefined;

  constructor(reason: string, hint?: string) {
    super(reason);
    this.hint = hint;
  }
}

/** The operation of every wrong call: what is wrong is the person's own line, and needs no "cannot". */
export const usageOperation = "call";

/** The error for a wrong call of `command` (`sporectl run`), exit code 2. */
export function usageError(command: string, reason: string, hint?: string): SporeletError {
  return new SporeletError({
    code: "invalid_argument",
    operation: usageOperation,
    subject: command,
    reason,
    hint: hint ?? `see ${command} --help`,
  });
}
