import { SporeletError } from "@sporelet/errors";

/** What can stand in a line of the log. Environment values and anything else secret must not be given. */
type LogFields = Record<string, string | number | boolean | undefined>;

/** A structured log: one JSON object per line with `time`, `level`, `event` and the fields. */
export interface Log {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, error: unknown, fields?: LogFields): void;
}

/** Makes a log that gives each line, ended by a newline, to `write`. */
export function createLog(write: (line: string) => void, now: () => Date = () => new Date()): Log {
  const line = (level: string, event: string, fields: LogFields | undefined) =>
    write(`${JSON.stringify({ time: now().toISOString(), level, event, ...fields })}\n`);
  return {
    info: (event, fields) => line("info", event, fields),
    warn: (event, fields) => line("warn", event, fields),
    error: (event, error, fields) => line("error", event, { ...fields, ...errorFields(error) }),
  };
}

function errorFields(error: unknown): LogFields {
  if (error instanceof SporeletError) {
    // The tail of a guest's log may hold anything; it goes to the caller alone.
    const cause = error.code === "internal" && error.cause instanceof Error ? error.cause.stack : undefined;
    return { code: error.code, error: error.message, cause };
  }
  return { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
