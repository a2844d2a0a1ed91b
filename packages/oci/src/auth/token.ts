import { SporeletError } from "@sporelet/errors";
import type { Dispatchers } from "../client/dispatchers.ts";
import { exchange, type Method, type RequestBody } from "../client/exchange.ts";
import { refused } from "../client/failure.ts";
import { once } from "../client/manifests.ts";
import type { ClientSettings } from "../client/options.ts";
import type { OperationContext } from "../client/retry.ts";
import type { Credential } from "../credentials/credential.ts";

export interface Token {
  value: string;
  /** By `performance.now()`. */
  validUntilMs: number;
  /** What the next token is asked for with, where the server gave another one. */
  identityToken?: string | undefined;
}

export interface TokenRequest {
  realm: URL;
  service: string | undefined;
  scopes: readonly string[];
  credential: Credential | undefined;
  /** Who the token is for, `host[:port]`. */
  registry: string;
}

const answerBytes = 1024 * 1024;
/** What servers that do not say give, at least (distribution: "Token Authentication Specification"). */
const defaultLifeSeconds = 60;
const clientId = "sporelet";

/**
 * Gets a token: anonymously or with a password by GET, with an identity token by POST, as OAuth 2 has it
 * (distribution: "Token Authentication Specification", "Oauth2 Token Authentication").
 */
export async function fetchToken(
  request: TokenRequest,
  connection: { dispatchers: Dispatchers; settings: ClientSettings },
): Promise<Token> {
  const { credential, realm, registry } = request;
  const context: OperationContext = { operation: "get a token for", subject: registry };
  const identity =
    credential !== undefined && "identityToken" in credential ? credential.identityToken : undefined;
  const { url, method, headers, body } = identity === undefined ? byGet(request) : byPost(request, identity);
  const answer = await exchange(connection.dispatchers.for(realm), {
    method,
    url,
    headers: { accept: "application/json", ...headers },
    body,
    idleTimeoutMs: connection.settings.idleTimeoutMs,
    answerTimeoutMs: connection.settings.idleTimeoutMs,
    context,
    // Many requests wait for one token: none of them may take it from the others.
    signal: undefined,
  });
  const text = await answer.text(answerBytes);
  if (answer.status !== 200) {
    throw refused(
      { status: answer.status, host: realm.host, retryAfter: answer.header("retry-after"), body: text },
      registry,
      context,
    );
  }
  return parseToken(text, realm, context);
}

function parseToken(text: string, realm: URL, context: OperationContext): Token {
  const nowMs = performance.now();
  let parsed: Record<string, unknown> = {};
  try {
    parsed = (JSON.parse(text) ?? {}) as Record<string, unknown>;
  } catch {
    // Said below: there is no token in it.
  }
  const value = parsed.token ?? parsed.access_token;
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value)) {
    const reason = `${realm.host} answered without a token`;
    throw new SporeletError({ ...context, code: "unavailable", reason });
  }
  const { expires_in: given, refresh_token: identityToken } = parsed;
  const lifeMs = 1000 * (typeof given === "number" && given > 0 ? given : defaultLifeSeconds);
  // What is sent just before the end arrives after it.
  const marginMs = Math.min(10_000, lifeMs / 5);
  return {
    value,
    validUntilMs: nowMs + lifeMs - marginMs,
    identityToken: typeof identityToken === "string" ? identityToken : undefined,
  };
}

interface Form {
  method: Method;
  url: URL;
  headers: Record<string, string>;
  body?: RequestBody;
}

function byGet({ realm, service, scopes, credential }: TokenRequest): Form {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.append("service", service);
  for (const scope of scopes) url.searchParams.append("scope", scope);
  if (credential === undefined || !("username" in credential)) return { method: "GET", url, headers: {} };
  url.searchParams.append("account", credential.username);
  return { method: "GET", url, headers: { authorization: basic(credential) } };
}

function byPost({ realm, service, scopes }: TokenRequest, identityToken: string): Form {
  const form = new URLSearchParams({
    grant_type: "refresh_token",
    client_id: clientId,
    ...(service === undefined ? {} : { service }),
    scope: scopes.join(" "),
    refresh_token: identityToken,
  });
  const bytes = Buffer.from(form.toString());
  const body = { size: bytes.length, open: () => once(bytes) };
  return {
    method: "POST",
    url: realm,
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body,
  };
}

/** The header for a name and a password (RFC 7617). */
export function basic({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}
