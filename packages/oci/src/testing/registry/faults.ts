/** What can go wrong with a request, and for which requests it does. */
export interface Fault {
  /**
   * Which requests: words that are all in `ORIGIN METHOD PATH`, where ORIGIN is `registry`, `storage` or `token`:
   * `GET /blobs/`, `storage GET`, `PATCH`. Or a function that decides. Default: all.
   */
  on?: string | ((request: RecordedRequest) => boolean);
  /** How often. Default: once. */
  times?: number;
  /** How many such requests pass before. Default: none. */
  after?: number;

  /** Answer so instead. */
  status?: number;
  /** Headers of the answer, added to or in place of its own. */
  headers?: Record<string, string>;
  /** Body of an answer with `status`. */
  body?: string;

  /** Cut the connection when so many bytes of the answer's body were sent; 0: before the answer. */
  dropAfterBytes?: number;
  /** Cut the connection when so many bytes of the request's body have arrived. What arrived counts. */
  dropUploadAfterBytes?: number;
  /** Send nothing more after so many bytes, but keep the connection. */
  stallAfterBytes?: number;
  /** Do not send faster. */
  bytesPerSecond?: number;

  /** Answer a range request with the whole blob. */
  ignoreRange?: boolean;
  /** Answer with the bytes that begin so much later than those asked for, and say so. */
  shiftRangeBytes?: number;
  /** Answer with only so many bytes, as if there were no more. */
  truncateToBytes?: number;
  /** Turn a bit of the body. */
  damage?: boolean;
  /** Send something after the end of the blob. */
  appendBytes?: number;
  /** Send blobs from another origin: true for this registry's storage, or an address. */
  redirect?: boolean | string;
  /** Forget all uploads that are under way, before this request is looked at. */
  expireUploads?: boolean;
}

/** A request as it arrived. */
export interface RecordedRequest {
  origin: "registry" | "storage" | "token";
  method: string;
  /** With the query. */
  path: string;
  headers: Readonly<Record<string, string | undefined>>;
  /** Bytes of the request's body that arrived. */
  receivedBytes: number;
  /** What was answered; undefined where the connection was cut before. */
  status: number | undefined;
  /** Bytes of the answer's body that were sent. */
  sentBytes: number;
}

export interface Faults {
  add(...faults: Fault[]): void;
  clear(): void;
  /** What happens to a request: the first fault that is meant for it and not used up. */
  take(request: RecordedRequest): Fault;
}

export function createFaults(initial: readonly Fault[] = []): Faults {
  let rules = initial.map(countdown);
  return {
    add(...faults) {
      rules.push(...faults.map(countdown));
    },
    clear() {
      rules = [];
    },
    take(request) {
      for (const rule of rules) {
        if (!matches(rule.fault.on, request)) continue;
        if (rule.after > 0) {
          rule.after -= 1;
          continue;
        }
        if (rule.times <= 0) continue;
        rule.times -= 1;
        return rule.fault;
      }
      return {};
    },
  };
}

function countdown(fault: Fault) {
  return { fault, after: fault.after ?? 0, times: fault.times ?? 1 };
}

function matches(on: Fault["on"], request: RecordedRequest): boolean {
  if (on === undefined) return true;
  if (typeof on === "function") return on(request);
  const text = `${request.origin} ${request.method} ${request.path}`;
  return on.split(" ").every((word) => text.includes(word));
}
