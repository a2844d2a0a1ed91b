/**
 * The closed set of reasons for which something in Sporelet fails, each with the exit code that `sporectl`
 * ends with. 1 is left to commands that were run in a guest; 2 is a wrong call.
 */
export const errorCodes = {
  invalid_argument: 2,
  not_found: 3,
  already_exists: 4,
  /** The state of the subject does not allow the operation: a stopped machine cannot be paused. */
  failed_precondition: 5,
  /** No room: memory, disk, ports, file descriptors. */
  resource_exhausted: 6,
  deadline_exceeded: 7,
  /** Something inside the guest failed: a hook, a service, a warm-up. */
  guest_failed: 8,
  /** Stored data is truncated, altered or malformed. */
  corrupt: 9,
  /** Machine state that this host cannot restore. */
  incompatible: 10,
  /** Missing on this host: a program, a device, a kernel feature. */
  unsupported: 11,
  permission_denied: 12,
  /** A peer (daemon, VMM, registry) cannot be reached or went away. */
  unavailable: 13,
  cancelled: 130,
  /** A defect of Sporelet. */
  internal: 70,
} as const;

export type ErrorCode = keyof typeof errorCodes;

export interface SporeletErrorOptions {
  code: ErrorCode;
  /** What was being done, as an infinitive without "to": `resume a clone`. */
  operation: string;
  /** What it was done to: a name, a path, a reference. */
  subject?: string | undefined;
  /** Why it failed, one sentence without a full stop. */
  reason: string;
  /** What to do about it; a command where there is one. */
  hint?: string | undefined;
  /** Tail of the log that explains the failure. */
  log?: string | undefined;
  cause?: unknown;
}

/**
 * The one error type of Sporelet. A person reads: what failed, on what, why, what to do.
 */
export class SporeletError extends Error {
  override readonly name = "SporeletError";
  readonly code: ErrorCode;
  readonly operation: string;
  readonly subject: string | undefined;
  readonly reason: string;
  readonly hint: string | undefined;
  readonly log: string | undefined;

  constructor(options: SporeletErrorOptions) {
    const subject = options.subject === undefined ? "" : ` ${options.subject}`;
    super(`cannot ${options.operation}${subject}: ${options.reason}`, { cause: options.cause });
    this.code = options.code;
    this.operation = options.operation;
    this.subject = options.subject;
    this.reason = options.reason;
    this.hint = options.hint;
    this.log = options.log;
  }

  /**
   * Turns anything thrown into a SporeletError; one that already is passes unchanged. Aborts become
   * `cancelled`, ENOSPC and EDQUOT `resource_exhausted`, EACCES and EPERM `permission_denied`.
   */
  static from(error: unknown, context: { operation: string; subject?: string | undefined }): SporeletError {
    if (error instanceof SporeletError) return error;
    const { code, reason, hint } = classify(error);
    return new SporeletError({ ...context, code, reason, hint, cause: error });
  }

  /** The same as data, for `--json`. */
  toJSON(): Record<string, string | undefined> {
    return {
      code: this.code,
      operation: this.operation,
      subject: this.subject,
      reason: this.reason,
      hint: this.hint,
      log: this.log,
    };
  }
}

/** The exit code for an error of any kind. */
export function exitCodeOf(error: unknown): number {
  return errorCodes[error instanceof SporeletError ? error.code : classify(error).code];
}

function classify(error: unknown): { code: ErrorCode; reason: string; hint?: string } {
  if (!(error instanceof Error)) return { code: "internal", reason: String(error) };
  if (error.name === "AbortError") return { code: "cancelled", reason: "it was cancelled" };
  if (error.name === "TimeoutError") return { code: "deadline_exceeded", reason: "it took too long" };
  const { code, path } = error as NodeJS.ErrnoException;
  const at = path === undefined ? "" : ` (${path})`;
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return {
        code: "resource_exhausted",
        reason: `no space left on the disk${at}`,
        hint: "free some space",
      };
    case "ENOMEM":
      return { code: "resource_exhausted", reason: "the host has too little free memory" };
    case "EACCES":
    case "EPERM":
      return { code: "permission_denied", reason: `permission denied${at}` };
    case "ENOENT":
      return { code: "not_found", reason: `no such file or directory${at}` };
    default:
      return { code: "internal", reason: error.message };
  }
}
