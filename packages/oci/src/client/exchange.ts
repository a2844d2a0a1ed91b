import { Readable } from "node:stream";
import { SporeletError } from "@sporelet/errors";
import { type Dispatcher, request } from "undici";
import { disconnected, saidOf } from "./failure.ts";
import { type OperationContext, Transient } from "./retry.ts";
import { createWatchdog, type Watchdog } from "./watchdog.ts";

export type Method = "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";

/** A request's body, which can be sent more than once. */
export interface RequestBody {
  size: number;
  open(): AsyncIterable<Uint8Array>;
}

export interface ExchangeRequest {
  method: Method;
  url: URL;
  headers: Record<string, string>;
  body?: RequestBody | undefined;
  /** No byte for so long: given up. */
  idleTimeoutMs: number;
  /** The same while the answer is awaited after the last byte was sent. */
  answerTimeoutMs: number;
  context: OperationContext;
  signal: AbortSignal | undefined;
}

export interface Answer {
  status: number;
  /** Names in lower case; of several lines with one name the first, but those of WWW-Authenticate joined. */
  header(name: string): string | undefined;
  /** Who answered, after redirects. */
  url: URL;
  /** The body as it arrives. Ending the loop early closes the connection. */
  body(): AsyncGenerator<Buffer>;
  /** At most so many bytes of the body as text, the rest is dropped. */
  text(limitBytes: number): Promise<string>;
  /** Drops the body, so that the connection can be used again. */
  discard(): Promise<void>;
}

/** Of what is sent, so much is read before the connection takes it. */
const readAheadBytes = 1024 * 1024;
/** A body that is not worth reading to its end to save a connection. */
const discardLimitBytes = 64 * 1024;

/**
 * One request and its answer, without retries and redirects.
 *
 * @throws Transient for what the network does; SporeletError for the rest
 */
export async function exchange(dispatcher: Dispatcher, options: ExchangeRequest): Promise<Answer> {
  const { method, url, body, idleTimeoutMs, signal } = options;
  const watchdog = createWatchdog(idleTimeoutMs, signal);
  const failure = (error: unknown) => explain(error, watchdog, options);
  try {
    watchdog.arm(body === undefined ? options.answerTimeoutMs : undefined);
    const response = await request(url, {
      dispatcher,
      method,
      headers: {
        ...options.headers,
        ...(method === "GET" || method === "HEAD" ? {} : { "content-length": String(body?.size ?? 0) }),
      },
      body: body === undefined || body.size === 0 ? null : streamOf(watched(body, watchdog, options)),
      signal: watchdog.signal,
      // The watchdog sees the sending too, and tells what it saw.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    watchdog.disarm();
    return answerOf(response, url, watchdog, failure);
  } catch (error) {
    watchdog[Symbol.dispose]();
    throw failure(error);
  }
}

/** Counted in bytes: by objects, 16 chunks of any size would be read ahead. */
function streamOf(chunks: AsyncIterable<Uint8Array>): Readable {
  return Readable.from(chunks, { objectMode: false, highWaterMark: readAheadBytes });
}

/** The body's bytes; each that is taken is a sign of life. */
async function* watched(
  body: RequestBody,
  watchdog: Watchdog,
  options: ExchangeRequest,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of body.open()) {
    watchdog.arm();
    yield chunk;
  }
  watchdog.arm(options.answerTimeoutMs);
}

function answerOf(
  response: Dispatcher.ResponseData,
  url: URL,
  watchdog: Watchdog,
  failure: (error: unknown) => unknown,
): Answer {
  async function* body(): AsyncGenerator<Buffer> {
    const iterator = response.body[Symbol.asyncIterator]();
    try {
      for (;;) {
        watchdog.arm();
        const { done, value } = await iterator.next();
        watchdog.disarm();
        if (done) return;
        yield value as Buffer;
      }
    } catch (error) {
      throw failure(error);
    } finally {
      watchdog[Symbol.dispose]();
      // Ended early or by an error: the rest will not be read.
      if (!response.body.readableEnded) response.body.on("error", () => undefined).destroy();
    }
  }
  const text = async (limitBytes: number): Promise<string> => {
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of body()) {
      parts.push(chunk);
      bytes += chunk.length;
      if (bytes >= limitBytes) break;
    }
    return Buffer.concat(parts).subarray(0, limitBytes).toString();
  };
  return {
    status: response.statusCode,
    url,
    header(name) {
      const value = response.headers[name];
      if (!Array.isArray(value)) return value;
      return name === "www-authenticate" ? value.join(", ") : value[0];
    },
    body,
    text,
    async discard() {
      // What was asked is known already: a connection that breaks now is nobody's problem.
      await text(discardLimitBytes).catch(() => undefined);
    },
  };
}

function explain(error: unknown, watchdog: Watchdog, options: ExchangeRequest): unknown {
  const { context, signal, url } = options;
  if (error instanceof SporeletError || error instanceof Transient) return error;
  if (signal?.aborted) return SporeletError.from(signal.reason, context);
  if (watchdog.expired) {
    const reason = saidOf(url, "nothing moved on the connection for too long", context);
    return new Transient(new SporeletError({ ...context, code: "unavailable", reason, cause: error }));
  }
  return disconnected(error, url, context);
}
