import { SporeletError } from "@sporelet/errors";
import { hasBlob } from "../client/blobs.ts";
import { addressOf, type Operation, pushScope, type RepositoryContext } from "../client/call.ts";
import { follow } from "../client/endpoint.ts";
import type { Answer } from "../client/exchange.ts";
import { Transient } from "../client/retry.ts";
import { refusalOf } from "../client/transport.ts";
import { type Digest, isDigest } from "../digest.ts";
import { corrupt } from "../json.ts";

/** What is to be sent. */
export interface BlobSource {
  digest: Digest;
  /** In bytes. */
  size: number;
  /** The bytes from an offset on. Called anew for each chunk and after each failure; ended early by `return()`. */
  read(offset: number): AsyncIterable<Uint8Array>;
}

/** An upload at the registry. */
export interface Session {
  /** The newest one: registries may put state into it that changes with each answer. */
  location: URL;
  /** Bytes that the registry has. */
  offset: number;
  /** OCI-Chunk-Min-Length. */
  minChunkBytes: number;
  /** True when a request failed since, so that the registry has to be asked for the offset. */
  uncertain: boolean;
  /** True when another process sent a part of it. */
  adopted: boolean;
}

/** One blob on its way. */
export interface Push {
  repository: RepositoryContext;
  operation: Operation;
  source: BlobSource;
  onProgress: (sentBytes: number) => void;
  /** Ends a chunk that is under way. */
  chunkSignal: AbortSignal | undefined;
}

/** The registry does not know the upload any more: all that was sent is lost. */
export class SessionLost extends Transient {}

/** The registry has another offset than we thought, and tells when it is asked. */
export class OutOfStep extends Transient {}

/** The registry does not take chunks as they are sent. */
export class ChunksRefused extends Error {
  /** Smaller ones may do. */
  readonly tooLarge: boolean;

  constructor(tooLarge: boolean) {
    super("the registry does not take chunks as they are sent");
    this.tooLarge = tooLarge;
  }
}

/** Begins an upload, or takes the one that a refused mount has begun. */
export async function open({ repository, operation, source }: Push): Promise<Session> {
  const begun = repository.opened.get(source.digest);
  repository.opened.delete(source.digest);
  const fresh = { offset: 0, uncertain: false, adopted: false };
  if (begun !== undefined) return { ...fresh, location: begun, minChunkBytes: 0 };
  const url = addressOf(repository, "blobs/uploads/");
  const answer = await operation.once({ method: "POST", url, expect: [202] });
  await answer.discard();
  const location = follow(
    answer.header("location"),
    answer.url,
    repository.settings.plainHttp,
    operation.context,
  );
  const minChunkBytes = Number(answer.header("oci-chunk-min-length") ?? 0) || 0;
  return { ...fresh, location, minChunkBytes };
}

/** Asks how much the registry has. */
export async function status(push: Push, session: Session): Promise<Session> {
  const { operation, repository } = push;
  const request = {
    method: "GET",
    url: session.location,
    expect: [204, 202, 200, 400, 404, 410],
  } as const;
  const answer = await operation.once(request).catch((failure: unknown) => {
    const away = session.location.origin !== repository.target.endpoint.origin;
    // Where another process was sent to then may be no more, and the registry may send us somewhere else.
    if (!session.adopted || !away || operation.signal?.aborted) throw failure;
    throw lostBecause(push, `${session.location.host} cannot be asked for it any more`);
  });
  if (answer.status >= 400) throw await lost(push, answer);
  await answer.discard();
  const offset = receivedBytes(answer);
  if (offset === undefined || offset > push.source.size)
    throw lostBecause(push, "it does not say how much it has");
  return { ...moved(push, session, answer), offset, uncertain: false };
}

/** Sends the next chunk with PATCH. */
export async function sendChunk(push: Push, session: Session): Promise<Session> {
  const { repository, operation, source } = push;
  const { offset } = session;
  const largest = Math.min(repository.settings.chunkBytes, repository.chunks.limitBytes);
  const size = Math.min(Math.max(largest, session.minChunkBytes), source.size - offset);
  const answer = await operation.once({
    method: "PATCH",
    url: session.location,
    headers: {
      "content-type": "application/octet-stream",
      "content-range": `${offset}-${offset + size - 1}`,
    },
    body: { size, open: () => bytesOf(push, offset, size) },
    // ECR answers 201 to the last chunk (cirruslabs/tart#273).
    expect: [202, 201, 204, 400, 404, 405, 410, 413, 416, 501],
    // The last bytes have left this process, but a slow link takes its time to carry them.
    answerTimeoutMs: repository.settings.commitTimeoutMs,
    signal: push.chunkSignal,
  });
  if (answer.status >= 400) throw await chunkRefused(push, session, answer);
  await answer.discard();
  const received = receivedBytes(answer) ?? offset + size;
  // ECR's Range stays at the end of the first chunk, whatever it has (aws/containers-roadmap#2831).
  if (received === offset) throw new ChunksRefused(false);
  // docker-registry 2.8 takes chunks at any offset and appends them; only its count tells that one went astray.
  if (received < offset || received > offset + size) throw lostBecause(push, "it has counted other bytes");
  return { ...moved(push, session, answer), offset: received };
}

/**
 * What a chunk that was refused means. Not all registries take chunks: Google's Artifact Registry takes none, and
 * GHCR none of more than 4 MiB, which it says with 416 (dotnet/sdk-container-builds#287, ocx-sh/ocx#237).
 */
async function chunkRefused(push: Push, session: Session, answer: Answer): Promise<Error> {
  const { status } = answer;
  const first = session.offset === 0 && !session.adopted;
  if (status === 413 || (status === 416 && first)) return discarded(answer, new ChunksRefused(true));
  if (status === 405 || status === 501 || (status === 400 && first))
    return discarded(answer, new ChunksRefused(false));
  if (status !== 416) return lost(push, answer);
  const error = await refusalOf(answer, push.repository.target, push.operation.context);
  return error instanceof Transient ? error : new OutOfStep(error);
}

async function discarded(answer: Answer, error: Error): Promise<Error> {
  await answer.discard();
  return error;
}

/** Ends the upload. `body`: the whole blob goes along. */
export async function commit(push: Push, session: Session, body: boolean): Promise<void> {
  const { repository, operation, source } = push;
  const url = new URL(session.location);
  url.search += `${url.search === "" ? "?" : "&"}digest=${encodeURIComponent(source.digest)}`;
  const answer = await operation.once({
    method: "PUT",
    url,
    headers: { "content-type": "application/octet-stream" },
    ...(body ? { body: { size: source.size, open: () => bytesOf(push, 0, source.size) } } : {}),
    expect: [201, 200, 202, 204, 400, 404, 410, 416],
    answerTimeoutMs: repository.settings.commitTimeoutMs,
  });
  if (answer.status >= 400) throw await commitRefused(push, session, answer, body);
  await answer.discard();
  const stored = answer.header("docker-content-digest");
  if (isDigest(stored) && stored !== source.digest) {
    throw corrupt(operation.context, `the registry says that it stored ${stored}`);
  }
  if (answer.status === 201) return;
  // Only 201 says that it is stored (distribution-spec 1.1, "Pushing a blob in chunks"); 202 is said of chunks.
  if (await hasBlob(repository, source.digest, operation.signal, pushScope(repository))) return;
  throw lostBecause(push, `it answered ${answer.status} to the end of it, and does not have the blob`);
}

/** A digest that does not fit is the fault of what was sent, of how it was sent, or of who sent the first part. */
async function commitRefused(push: Push, session: Session, answer: Answer, body: boolean): Promise<Error> {
  const { operation, repository } = push;
  const refusal = await refusalOf(answer, repository.target, operation.context);
  const { reason } = refusal instanceof Transient ? refusal.error : refusal;
  if (!reason.includes("DIGEST_INVALID") || session.adopted) return lostBecause(push, reason);
  return body ? corrupt(operation.context, reason) : new ChunksRefused(false);
}

/** The session after an answer: its newest Location, which may be relative to the last. */
function moved({ repository, operation }: Push, session: Session, answer: Answer): Session {
  const location = answer.header("location");
  if (location === undefined) return session;
  return {
    ...session,
    location: follow(location, answer.url, repository.settings.plainHttp, operation.context),
  };
}

/** `Range: 0-N`, the last byte that arrived. An upload without any is `0-0` too, as nobody sends one byte. */
function receivedBytes(answer: Answer): number | undefined {
  const last = /^(?:bytes=)?0-(\d+)$/.exec(answer.header("range") ?? "")?.[1];
  if (last === undefined) return undefined;
  return last === "0" ? 0 : Number(last) + 1;
}

async function lost(push: Push, answer: Answer): Promise<SessionLost> {
  const { operation, repository } = push;
  const refusal = await refusalOf(answer, repository.target, operation.context);
  return lostBecause(push, (refusal instanceof Transient ? refusal.error : refusal).reason);
}

function lostBecause({ operation }: Push, why: string): SessionLost {
  const reason = `the registry lost the upload: ${why}`;
  return new SessionLost(new SporeletError({ ...operation.context, code: "unavailable", reason }));
}

/** Exactly `size` bytes of the source. */
async function* bytesOf(
  { source, operation, onProgress }: Push,
  offset: number,
  size: number,
): AsyncGenerator<Uint8Array> {
  let sent = 0;
  for await (const chunk of source.read(offset)) {
    const part = chunk.subarray(0, size - sent);
    if (part.length > 0) yield part;
    sent += part.length;
    onProgress(offset + sent);
    if (sent === size) return;
  }
  if (sent === size) return;
  const reason = `what is to be sent has ${offset + sent} bytes, not ${source.size}`;
  throw new SporeletError({ ...operation.context, code: "corrupt", reason });
}
