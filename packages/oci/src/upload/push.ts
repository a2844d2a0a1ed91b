import { hasBlob } from "../client/blobs.ts";
import { operationOn, pushScope, type RepositoryContext } from "../client/call.ts";
import { follow } from "../client/endpoint.ts";
import { pushChunks, type StoredSession } from "./chunks.ts";
import { type BlobSource, commit, open, type Push } from "./session.ts";

/**
 * Uploads that are under way, kept by the caller so that another process can go on with them. Keys and values
 * are texts without meaning to the caller; a value can give access to the upload, so it is kept like a password.
 */
export interface UploadSessions {
  get(key: string): Promise<string | undefined>;
  set(key: string, session: string): Promise<void>;
  delete(key: string): Promise<void>;
}

export interface PushOptions {
  /** Default: none; an upload that the end of the process cuts off begins anew. */
  sessions?: UploadSessions | undefined;
  /** Bytes sent so far, with those of earlier processes. Goes back when something has to be sent again. */
  onProgress?: ((sentBytes: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Sends a blob unless the registry has it. */
export async function pushBlob(
  repository: RepositoryContext,
  source: BlobSource,
  options: PushOptions,
): Promise<"exists" | "pushed"> {
  const { onProgress = () => undefined, signal } = options;
  const key = `${repository.name}@${source.digest}`;
  const sessions = storedUnder(key, options.sessions, repository);
  if (await hasBlob(repository, source.digest, signal, pushScope(repository))) {
    await sessions.forget();
    onProgress(source.size);
    return "exists";
  }
  const operation = operationOn(repository, {
    operation: "push the blob",
    subject: key,
    scopes: [pushScope(repository)],
    signal,
  });
  using patience = abortedLater(
    options.sessions === undefined ? 0 : repository.settings.lastChunkTimeoutMs,
    signal,
  );
  const push: Push = { repository, operation, source, onProgress, chunkSignal: patience.signal };
  const small = source.size <= repository.settings.singlePutBytes;
  if (small || !repository.chunks.taken || !(await pushChunks(push, sessions))) {
    operation.attempts.progressed();
    await operation.attempts.run(async () => commit(push, await open(push), true));
    // Only now is it certain that it was the chunks.
    if (!small) repository.chunks.taken = false;
    onProgress(source.size);
  }
  return "pushed";
}

/** A signal that follows another one some time later. */
function abortedLater(
  delayMs: number,
  signal: AbortSignal | undefined,
): Disposable & { signal: AbortSignal | undefined } {
  if (signal === undefined || delayMs === 0) return { signal, [Symbol.dispose]: () => undefined };
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => controller.abort(signal.reason), delayMs);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    },
  };
}

function storedUnder(
  key: string,
  sessions: UploadSessions | undefined,
  { target, settings }: RepositoryContext,
): StoredSession {
  return {
    async read() {
      const text = await sessions?.get(key);
      if (text === undefined) return undefined;
      try {
        const { location, minChunkBytes = 0 } = JSON.parse(text) as {
          location: string;
          minChunkBytes?: number;
        };
        const context = { operation: "continue the upload", subject: key };
        const url = follow(location, target.endpoint, settings.plainHttp, context);
        return { location: url, offset: 0, minChunkBytes, uncertain: true, adopted: true };
      } catch {
        // Whatever it is, it is not worth more than the bytes that it would have saved.
        return undefined;
      }
    },
    async write({ location, minChunkBytes }) {
      await sessions?.set(key, JSON.stringify({ location: location.href, minChunkBytes }));
    },
    async forget() {
      await sessions?.delete(key);
    },
  };
}
