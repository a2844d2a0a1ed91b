import { request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import type { Guest } from "./guest.ts";
import type { HttpWarmup } from "./warmup.ts";

export interface HttpAnswer {
  status: number;
  /** The first 4 KiB. */
  body: string;
}

const bodyLimitBytes = 4096;

/** One request from inside the guest, on a connection of its own. */
export async function requestInGuest(
  guest: Guest,
  warmup: HttpWarmup,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { hostname, port, pathname, search } = new URL(warmup.url);
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const outgoing = request({
    createConnection: () => guest.connect(Number(port || 80), hostname, signal),
    host: hostname,
    path: pathname + search,
    method: warmup.method,
    headers: { host: new URL(warmup.url).host, connection: "close", ...warmup.headers },
    signal,
  });
  outgoing.on("error", reject);
  outgoing.on("response", (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () => {
      const body = Buffer.concat(chunks).subarray(0, bodyLimitBytes).toString("utf8");
      resolve({ status: response.statusCode ?? 0, body });
    });
  });
  outgoing.end(warmup.body === "" ? undefined : warmup.body);
  return promise;
}

/** A service without a healthcheck may need a moment before it listens: the first answer is waited for. */
const firstRetryMs = 100;
const lastRetryMs = 2000;

/**
 * Repeats a request until it has been answered `times` times with the wanted status.
 * @returns the number of answers; rejects with the last thing that went wrong when the signal aborts, and at
 *   once when an answer after the first good one is wrong
 */
export async function warmHttp(
  guest: Guest,
  warmup: HttpWarmup,
  signal: AbortSignal,
  onProgress: (done: number) => void,
): Promise<void> {
  let retryMs = firstRetryMs;
  let last: Error | undefined;
  for (let done = 0; done < warmup.times; ) {
    try {
      const { status, body } = await requestInGuest(guest, warmup, signal);
      if (status === warmup.status) {
        done++;
        onProgress(done);
        continue;
      }
      last = new Error(`answered with status ${status} instead of ${warmup.status}\n${body}`.trimEnd());
      if (done > 0) throw last;
    } catch (error) {
      if (signal.aborted) throw last ?? error;
      if (done > 0) throw error;
      last = error as Error;
    }
    // There is no event for "listens now" that does not need a program inside the container.
    await delay(retryMs, undefined, { signal }).catch(() => {
      throw last ?? signal.reason;
    });
    retryMs = Math.min(retryMs * 2, lastRetryMs);
  }
}
