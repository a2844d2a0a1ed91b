/** What a project's author wants done before the freeze, so that the first real request finds things warm. */
export type Warmup = CommandWarmup | HttpWarmup;

export interface CommandWarmup {
  kind: "command";
  argv: string[];
  /** Compose service in whose container it runs; undefined: in the guest itself. */
  service: string | undefined;
  /** How often, one after the other. */
  times: number;
  /** For all of them together. */
  timeoutMs: number;
}

export interface HttpWarmup {
  kind: "http";
  /** As seen from inside the guest: `http://127.0.0.1:8080/`. */
  url: string;
  /** What each response must have. */
  status: number;
  times: number;
  method: string;
  body: string;
  headers: Record<string, string>;
  timeoutMs: number;
}

/** For messages: what the author wrote, in short. */
export function describeWarmup(warmup: Warmup): string {
  if (warmup.kind === "http") return `${warmup.method} ${warmup.url}`;
  const command = warmup.argv.join(" ");
  const short = command.length > 60 ? `${command.slice(0, 57)}...` : command;
  return warmup.service === undefined ? short : `${warmup.service}: ${short}`;
}

/** Whether a value that was stored as JSON is a warm-up, so that it can be done again. */
export function isWarmup(value: unknown): value is Warmup {
  if (typeof value !== "object" || value === null) return false;
  const { kind, times, timeoutMs, argv, service, url, status, method, body, headers } = value as Record<
    string,
    unknown
  >;
  const text = (one: unknown) => typeof one === "string";
  const positive = (one: unknown) => Number.isInteger(one) && (one as number) > 0;
  if (!positive(times) || !positive(timeoutMs)) return false;
  if (kind === "command") {
    return Array.isArray(argv) && argv.every(text) && (service === undefined || text(service));
  }
  if (kind !== "http" || typeof headers !== "object" || headers === null) return false;
  return [url, method, body].every(text) && positive(status) && Object.values(headers).every(text);
}
