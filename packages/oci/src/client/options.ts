import type { CredentialSource } from "../credentials/credential.ts";

/** How a client talks to registries. Everything has a default. */
export interface RegistryClientOptions {
  /** Where user names and passwords come from. Default: none, everything is asked for anonymously. */
  credentials?: CredentialSource | undefined;
  /**
   * True: plain HTTP to every registry; `never`: HTTPS even to loopback addresses. Default: false, which is plain
   * HTTP to loopback addresses (127.0.0.0/8, ::1, localhost) alone.
   */
  plainHttp?: PlainHttp | undefined;
  /** PEM file with certificates that are trusted beside those of the system. Default: none. */
  caFile?: string | undefined;
  /** Default: no proxy. `proxyFromEnvironment` reads the usual variables. */
  proxy?: ProxyRules | undefined;
  retries?: Partial<RetryPolicy> | undefined;
  /** A connection on which not one byte moves for so long is given up. Default: 30 s. */
  idleTimeoutMs?: number | undefined;
  /** How long a registry may think after it got the last byte of a blob: it hashes or moves it. Default: 5 min. */
  commitTimeoutMs?: number | undefined;
  /** Bytes that one PATCH of an upload carries; what a dropped connection costs at most. Default: 32 MiB. */
  chunkBytes?: number | undefined;
  /**
   * How long a push that is cancelled may go on, to end the chunk that is under way: an upload can be continued
   * from the end of a chunk everywhere, from the middle of one at few registries. Only where sessions are kept.
   * Default: 2 s.
   */
  lastChunkTimeoutMs?: number | undefined;
  /** Blobs up to this size are sent with one PUT. Default: 1 MiB, or `chunkBytes` where that is less. */
  singlePutBytes?: number | undefined;
  /** Told of every attempt that failed and is to be repeated: why, and what else is known. */
  onRetry?: ((why: string, event: RetryEvent) => void) | undefined;
}

export type PlainHttp = boolean | "never";

export interface ProxyRules {
  /** Proxy for http: `http://[user:password@]host[:port]` or `https://…`. */
  http?: string | undefined;
  /** Proxy for https, reached through CONNECT. */
  https?: string | undefined;
  /** Hosts that are reached without: `a.example,.b.example,10.0.0.1:5000,*`. A name covers its subdomains. */
  no?: string | undefined;
}

export interface RetryPolicy {
  /** Attempts in a row that may fail, the first included. Progress begins the count anew. Default: 6. */
  attempts: number;
  /** The longest delay before the second attempt; it doubles from there. Default: 250 ms. */
  firstDelayMs: number;
  /** No delay of our own is longer. Default: 10 s. */
  longestDelayMs: number;
  /** So much patience a registry may ask for (Retry-After). Where it wants more, no attempt follows. Default: 60 s. */
  longestRetryAfterMs: number;
  /** No attempt begins so long after the last progress. Default: 5 min. */
  deadlineMs: number;
}

export interface RetryEvent {
  operation: string;
  subject: string;
  /** 1 after the first failure. */
  failures: number;
  delayMs: number;
}

/** Options with their defaults filled in. */
export interface ClientSettings {
  plainHttp: PlainHttp;
  idleTimeoutMs: number;
  commitTimeoutMs: number;
  chunkBytes: number;
  singlePutBytes: number;
  lastChunkTimeoutMs: number;
  retries: RetryPolicy;
  onRetry: (why: string, event: RetryEvent) => void;
}

/** The options with their defaults. */
export function settingsOf(options: RegistryClientOptions): ClientSettings {
  // bench on loopback with docker-registry: 16 MiB cost 20 % more time than one PUT of everything, 64 MiB nothing.
  const { chunkBytes = 32 * 1024 * 1024 } = options;
  return {
    plainHttp: options.plainHttp ?? false,
    idleTimeoutMs: options.idleTimeoutMs ?? 30_000,
    commitTimeoutMs: options.commitTimeoutMs ?? 300_000,
    chunkBytes,
    singlePutBytes: options.singlePutBytes ?? Math.min(1024 * 1024, chunkBytes),
    lastChunkTimeoutMs: options.lastChunkTimeoutMs ?? 2000,
    onRetry: options.onRetry ?? (() => undefined),
    retries: {
      attempts: 6,
      firstDelayMs: 250,
      longestDelayMs: 10_000,
      longestRetryAfterMs: 60_000,
      deadlineMs: 300_000,
      ...options.retries,
    },
  };
}
