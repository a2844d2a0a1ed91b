import { hasBlob } from "../client/blobs.ts";
import { operationOn, pushScope, type RepositoryContext } from "../client/call.ts";
import { follow } from "../client/endpoint.ts";
import {
  type BlobSource,
  commit,
  open,
  type Push,
  type Session,
  SessionLost,
  sendChunk,
  status,
} from "./session.ts";

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
  if (source.size <= repository.settings.singlePutBytes) {
    await operation.attempts.run(async () => commit(push, await open(push), true));
    onProgress(source.size);
    return "pushed";
  }
  return await pushChunks(push, sessions);
}

/** Chunk by chunk, each of which is a point from which the upload can be continued. */
async function pushChunks(push: Push, sessions: StoredSession): Promise<"exists" | "pushed"> {
  const { operation, source, repository, onProgress } = push;
  const { signal } = operation;
  let session = await sessions.read();
  // Counted for the whole blob: a registry that always forgets is not fed for ever.
  let losses = 0;
  for (;;) {
    try {
      session =
        session === undefined ? await open(push) : session.uncertain ? await status(push, session) : session;
      onProgress(session.offset);
      while (session.offset < source.size) {
        session = await sendChunk(push, session);
        await sessions.write(session);
        operation.attempts.progressed();
        onProgress(session.offset);
        signal?.throwIfAborted();
      }
      await commit(push, session, false);
      await sessions.forget();
      return "pushed";
    } catch (failure) {
      if (failure instanceof SessionLost) {
        losses += 1;
        if (losses >= repository.settings.retries.attempts) throw failure.error;
        session = undefined;
        await sessions.forget();
        // It may be there already: the answer that said so can have been what was lost.
        if (await hasBlob(repository, source.digest, operation.signal, pushScope(repository)))
          return "pushed";
        onProgress(0);
      } else if (session !== undefined) {
        session = { ...session, uncertain: true };
      }
      await operation.attempts.failed(failure);
    }
  }
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

interface StoredSession {
  read(): Promise<Session | undefined>;
  write(session: Session): Promise<void>;
  forget(): Promise<void>;
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
        const { location, minChunkBytes } = JSON.parse(text) as { location: string; minChunkBytes: number };
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
