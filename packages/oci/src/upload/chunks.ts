import { hasBlob } from "../client/blobs.ts";
import { pushScope } from "../client/call.ts";
import {
  ChunksRefused,
  commit,
  OutOfStep,
  open,
  type Push,
  type Session,
  SessionLost,
  sendChunk,
  status,
} from "./session.ts";

/** Where the state of an upload is kept for other processes. */
export interface StoredSession {
  read(): Promise<Session | undefined>;
  write(session: Session): Promise<void>;
  forget(): Promise<void>;
}

/** As large as GHCR takes them. */
const smallChunkBytes = 4_000_000;
/** So often may a registry forget an upload, lose its place, or fail at the end, before it is done without chunks. */
const patience = 3;

/**
 * Sends a blob chunk by chunk, each of which is a point from which the upload can be continued.
 *
 * @returns false when the registry does not take chunks, or cannot be trusted with them
 */
export async function pushChunks(push: Push, sessions: StoredSession): Promise<boolean> {
  const { operation, source, repository, onProgress } = push;
  const { signal, attempts } = operation;
  const scope = pushScope(repository);
  let session = await sessions.read();
  let doubts = 0;
  let farthest = 0;

  const reached = (offset: number): void => {
    // What is sent a second time, after all was lost, is no progress.
    if (offset > farthest) attempts.progressed();
    farthest = Math.max(farthest, offset);
    onProgress(offset);
  };
  const send = async (): Promise<void> => {
    session =
      session === undefined ? await open(push) : session.uncertain ? await status(push, session) : session;
    reached(session.offset);
    while (session.offset < source.size) {
      session = await sendChunk(push, session);
      await sessions.write(session);
      reached(session.offset);
      signal?.throwIfAborted();
    }
    await commit(push, session, false);
  };
  const startAnew = async (): Promise<void> => {
    session = undefined;
    await sessions.forget();
    onProgress(0);
  };

  for (;;) {
    try {
      await send();
      await sessions.forget();
      return true;
    } catch (failure) {
      if (failure instanceof ChunksRefused) {
        await startAnew();
        if (!failure.tooLarge || repository.chunks.limitBytes <= smallChunkBytes) return false;
        repository.chunks.limitBytes = smallChunkBytes;
        continue;
      }
      const complete = (session as Session | undefined)?.offset === source.size;
      if (failure instanceof SessionLost) await startAnew();
      else if (session !== undefined) session = { ...session, uncertain: true };
      await attempts.failed(failure);
      // The answer that said that it is there may be what was lost.
      if (complete && (await hasBlob(repository, source.digest, signal, scope))) {
        await sessions.forget();
        return true;
      }
      if (failure instanceof SessionLost || failure instanceof OutOfStep || complete) doubts += 1;
      if (doubts >= patience) {
        await startAnew();
        return false;
      }
    }
  }
}
