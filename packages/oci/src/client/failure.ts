import { type ErrorCode, SporeletError } from "@sporelet/errors";
import { type OperationContext, parseRetryAfter, Transient } from "./retry.ts";

/** Statuses after which the same request may succeed. */
const transientStatuses: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);

const codes: Readonly<Record<number, ErrorCode>> = {
  401: "permission_denied",
  403: "permission_denied",
  404: "not_found",
  413: "resource_exhausted",
  507: "resource_exhausted",
};

/** What a registry said when it refused. */
export interface Refusal {
  status: number;
  /** `host[:port]` of who answered. */
  host: string;
  retryAfter?: string | undefined;
  /** The answer's body, or its beginning. */
  body: string;
}

/**
 * An answer that is not what was asked for: {@link Transient} when it may pass.
 *
 * @param registry where to log in, `host[:port]`
 */
export function refused(
  refusal: Refusal,
  registry: string,
  context: OperationContext,
): SporeletError | Transient {
  const { status, host, body } = refusal;
  const said = explanationOf(body);
  const code =
    codes[status] ?? (transientStatuses.has(status) || status >= 500 ? "unavailable" : "failed_precondition");
  const error = new SporeletError({
    ...context,
    code,
    reason: `${host} answered ${status}${said === "" ? "" : `: ${said}`}`,
    hint: hintFor(status, body, registry),
  });
  if (!transientStatuses.has(status)) return error;
  return new Transient(error, parseRetryAfter(refusal.retryAfter, Date.now()));
}

/** The codes of a registry's error body (distribution-spec 1.1, "Error Codes"). */
function errorCodesOf(body: string): string[] {
  return errorsOf(body).flatMap(({ code }) => (typeof code === "string" ? [code] : []));
}

function explanationOf(body: string): string {
  const errors = errorsOf(body).map(({ code, message }) => [code, message].filter(Boolean).join(": "));
  if (errors.length > 0) return printable(errors.join("; "));
  // Proxies and load balancers answer with text or a page; of a page nothing is worth showing.
  return body.trimStart().startsWith("<") ? "" : printable(body);
}

function errorsOf(body: string): { code?: unknown; message?: unknown }[] {
  try {
    const { errors } = JSON.parse(body) as { errors?: unknown };
    return Array.isArray(errors) ? errors.filter((error) => typeof error === "object" && error !== null) : [];
  } catch {
    return [];
  }
}

/** One line without anything that could steer a terminal. */
function printable(text: string): string {
  const line = text.replaceAll(/[\p{C}\s]+/gu, " ").trim();
  return line.length > 300 ? `${line.slice(0, 300)}…` : line;
}

function hintFor(status: number, body: string, registry: string): string | undefined {
  if (status === 401) return `log in: sporectl login ${registry}`;
  if (status === 403) return `log in as someone who may: sporectl login ${registry}`;
  if (status === 400 && body.includes("HTTP request to an HTTPS server")) {
    return "the registry speaks HTTPS: do not ask for plain HTTP";
  }
  if (status === 404 && errorCodesOf(body).includes("NAME_UNKNOWN")) {
    return "some registries want a repository to be created before anything is pushed to it";
  }
  if (status === 429) return "the registry limits how often it is asked; try again later";
  return undefined;
}

const certificateProblem = /CERT|SELF_SIGNED|UNABLE_TO_(VERIFY|GET)_/;
const notTls = /ERR_SSL_WRONG_VERSION_NUMBER|ERR_SSL_PACKET_LENGTH_TOO_LONG|ERR_SSL_HTTP_REQUEST|EPROTO/;
/** Failures that another attempt will not change. */
const lasting = /ENOTFOUND|EACCES|EPERM|UND_ERR_INVALID_ARG|UND_ERR_DESTROYED|UND_ERR_CLOSED/;
/** What undici says when CONNECT was refused. */
const proxyRefused = /^Proxy response \((4\d\d)\)/;

/** An exchange that failed before there was an answer, or amid it. */
export function disconnected(cause: unknown, url: URL, context: OperationContext): SporeletError | Transient {
  const { code, reason } = rootOf(cause);
  const options = { ...context, code: "unavailable", cause } as const;
  if (notTls.test(code)) {
    return new SporeletError({
      ...options,
      reason: `${url.host} does not speak HTTPS`,
      hint: "if the registry is meant to speak plain HTTP, say so with --plain-http",
    });
  }
  if (certificateProblem.test(code)) {
    return new SporeletError({
      ...options,
      reason: `the certificate of ${url.host} is not trusted (${reason})`,
      hint: "give the certificate of its authority with --ca-file",
    });
  }
  const proxyStatus = proxyRefused.exec(reason)?.[1];
  if (proxyStatus !== undefined) {
    return new SporeletError({
      ...options,
      reason: `the proxy answered ${proxyStatus} when it was asked for ${url.host}`,
      hint:
        proxyStatus === "407"
          ? "put name and password into its address: http://NAME:PASSWORD@HOST"
          : undefined,
    });
  }
  const error = new SporeletError({ ...options, reason: saidOf(url, reason, context) });
  return lasting.test(code) ? error : new Transient(error);
}

/** Names the host, unless the subject begins with it and the reader has just read it. */
export function saidOf(url: URL, reason: string, { subject }: OperationContext): string {
  return subject.startsWith(url.host) ? reason : `${url.host}: ${reason}`;
}

/** The innermost error with a code: undici and AggregateError wrap what the socket said. */
function rootOf(error: unknown): { code: string; reason: string } {
  if (error instanceof AggregateError && error.errors.length > 0) return rootOf(error.errors[0]);
  if (!(error instanceof Error)) return { code: "", reason: String(error) };
  const inner = error.cause instanceof Error ? rootOf(error.cause) : undefined;
  if (inner !== undefined && inner.code !== "") return inner;
  const { code = "" } = error as NodeJS.ErrnoException;
  return { code, reason: reasons[code] ?? error.message.split("\n", 1)[0] ?? "" };
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ECONNRESET: "the connection was reset",
  EPIPE: "the connection was closed",
  ENOTFOUND: "there is no host of that name",
  EAI_AGAIN: "the name of the host could not be looked up",
  ETIMEDOUT: "the connection timed out",
  UND_ERR_CONNECT_TIMEOUT: "no connection came about in time",
  UND_ERR_SOCKET: "the connection was closed",
  UND_ERR_DESTROYED: "the client was closed meanwhile",
  UND_ERR_CLOSED: "the client was closed meanwhile",
};
