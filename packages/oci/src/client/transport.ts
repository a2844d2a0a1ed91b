import { SporeletError } from "@sporelet/errors";
import type { Authorizer } from "../auth/authorizer.ts";
import type { Dispatchers } from "./dispatchers.ts";
import { follow } from "./endpoint.ts";
import { type Answer, exchange, type Method, type RequestBody } from "./exchange.ts";
import { refused } from "./failure.ts";
import type { ClientSettings } from "./options.ts";
import type { OperationContext, Transient } from "./retry.ts";

/** The registry that a request is meant for, wherever redirects lead. */
export interface Target {
  /** `host[:port]` as in references: what credentials are looked up by. */
  registry: string;
  /** The root of its API. */
  endpoint: URL;
}

export interface TransportRequest {
  method: Method;
  url: URL;
  target: Target;
  /** `repository:NAME:pull,push`: what a token has to allow. */
  scopes: readonly string[];
  headers?: Record<string, string>;
  body?: RequestBody | undefined;
  /** Statuses that mean something to the caller; all others are thrown. */
  expect: readonly number[];
  /** How long the answer may take once everything is sent. Default: the idle timeout. */
  answerTimeoutMs?: number | undefined;
  /** Go straight to where the same address led before. Default: false. */
  remember?: boolean;
  context: OperationContext;
  signal: AbortSignal | undefined;
}

/** Requests with authorization and redirects, one attempt each. */
export interface Transport {
  /** @throws Transient where the same may be tried again, SporeletError where not */
  send(request: TransportRequest): Promise<Answer>;
}

/**
 * HEAD requests that expect these get them for redirects to other origins: object stores answer 403 to the HEAD of
 * an address that was signed for GET (containerd/stargz-snapshotter#167, pulp/pulp_container#579).
 */
export const redirects = [301, 302, 303, 307, 308] as const;
const redirectStatuses: ReadonlySet<number> = new Set(redirects);
const longestChain = 5;
/** What object stores answer once a signed address has expired. */
const expiredStatuses: ReadonlySet<number> = new Set([400, 401, 403, 404, 410]);
const errorBodyBytes = 16 * 1024;
const rememberedRedirects = 512;

export function createTransport(options: {
  dispatchers: Dispatchers;
  authorizer: Authorizer;
  settings: ClientSettings;
}): Transport {
  const { dispatchers, authorizer, settings } = options;
  /** Where reads of blobs were redirected to, so that each of many range reads takes one request and not two. */
  const remembered = new Map<string, URL>();

  const ask = (request: TransportRequest, url: URL, authorization: string | undefined): Promise<Answer> =>
    exchange(dispatchers.for(url), {
      method: request.method,
      url,
      headers: { ...request.headers, ...(authorization === undefined ? {} : { authorization }) },
      body: request.body,
      idleTimeoutMs: settings.idleTimeoutMs,
      answerTimeoutMs: request.answerTimeoutMs ?? settings.idleTimeoutMs,
      context: request.context,
      signal: request.signal,
    });

  /** Asks the registry itself, as whoever it wants. */
  const askRegistry = async (request: TransportRequest): Promise<Answer> => {
    const { target, scopes, context, signal, url } = request;
    // An upload's Location may be at another host, which the credentials are not for.
    if (url.origin !== target.endpoint.origin) return ask(request, url, undefined);
    for (let attempt = 0; ; attempt++) {
      const authorization = await authorizer.authorization(target, scopes, context, signal);
      const answer = await ask(request, url, authorization);
      if (answer.status !== 401 || attempt === 2) return answer;
      const challenge = answer.header("www-authenticate");
      const again = await authorizer.challenged(target, scopes, challenge, authorization);
      if (!again) return answer;
      await answer.discard();
    }
  };

  /** Follows redirects. Authorization is never sent to where they lead. */
  const followAll = async (request: TransportRequest, first: Answer): Promise<Answer> => {
    let answer = first;
    for (let hops = 0; redirectStatuses.has(answer.status); hops++) {
      const { context } = request;
      const reading = request.method === "GET" || request.method === "HEAD";
      if (hops === longestChain || (!reading && answer.status < 307)) {
        await answer.discard();
        const reason =
          hops === longestChain
            ? `${request.target.registry} leads through more than ${longestChain} redirects`
            : `${request.target.registry} answers a ${request.method} with a redirect (${answer.status})`;
        throw new SporeletError({ ...context, code: "unavailable", reason });
      }
      await answer.discard();
      const url = follow(answer.header("location"), answer.url, settings.plainHttp, context);
      const away = url.origin !== request.target.endpoint.origin;
      if (away && request.method === "HEAD" && request.expect.includes(answer.status)) return answer;
      const home = url.origin === request.target.endpoint.origin && answer.url.origin === url.origin;
      answer = home ? await askRegistry({ ...request, url }) : await ask(request, url, undefined);
    }
    return answer;
  };

  const remember = (request: TransportRequest, answer: Answer): void => {
    if (request.remember !== true || answer.url.origin === request.target.endpoint.origin) return;
    remembered.delete(request.url.href);
    remembered.set(request.url.href, answer.url);
    const [oldest] = remembered.keys();
    if (remembered.size > rememberedRedirects && oldest !== undefined) remembered.delete(oldest);
  };

  /** @returns undefined when nobody answers there any more: the registry knows who does. */
  const askKnown = async (request: TransportRequest, known: URL): Promise<Answer | undefined> => {
    try {
      return await ask(request, known, undefined);
    } catch (error) {
      if (request.signal?.aborted) throw error;
      return undefined;
    }
  };

  const resolve = async (request: TransportRequest): Promise<Answer> => {
    const known = request.remember === true ? remembered.get(request.url.href) : undefined;
    if (known !== undefined) {
      const answer = await askKnown(request, known);
      if (answer !== undefined && request.expect.includes(answer.status)) return answer;
      // Another request may have been led elsewhere meanwhile.
      if (remembered.get(request.url.href) === known) remembered.delete(request.url.href);
      await answer?.discard();
    }
    const answer = await followAll(request, await askRegistry(request));
    const elsewhere = answer.url.origin !== request.target.endpoint.origin;
    if (
      elsewhere &&
      expiredStatuses.has(answer.status) &&
      request.url.origin === request.target.endpoint.origin
    ) {
      // The address that the registry gave has expired, or was never good: it may give another.
      await answer.discard();
      return followAll(request, await askRegistry(request));
    }
    return answer;
  };

  return {
    async send(request) {
      const answer = await resolve(request);
      if (request.expect.includes(answer.status)) {
        remember(request, answer);
        return answer;
      }
      throw await refusalOf(answer, request.target, request.context);
    },
  };
}

/** The error that an answer amounts to, with what the registry said. */
export async function refusalOf(
  answer: Answer,
  target: Target,
  context: OperationContext,
): Promise<Transient | SporeletError> {
  const refusal = {
    status: answer.status,
    host: answer.url.host,
    retryAfter: answer.header("retry-after"),
    body: await answer.text(errorBodyBytes),
  };
  return refused(refusal, target.registry, context);
}
