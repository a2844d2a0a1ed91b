import { SporeletError } from "@sporelet/errors";
import type { Digest } from "../digest.ts";
import { addressOf, operationOn, pullScope, pushScope, type RepositoryContext } from "./call.ts";
import { follow } from "./endpoint.ts";
import { redirects } from "./transport.ts";

/** What is left of an answer of 4xx that nobody expected. */
const refusals: ReadonlySet<string> = new Set(["permission_denied", "not_found", "failed_precondition"]);

/**
 * Whether the repository has a blob.
 *
 * @param scope Default: to pull. Whoever is about to push asks with the token for that.
 */
export async function hasBlob(
  repository: RepositoryContext,
  digest: Digest,
  signal: AbortSignal | undefined,
  scope = pullScope(repository),
): Promise<boolean> {
  const operation = operationOn(repository, {
    operation: "look for the blob",
    subject: `${repository.name}@${digest}`,
    scopes: [scope],
    signal,
  });
  const url = addressOf(repository, `blobs/${digest}`);
  const answer = await operation.send({ method: "HEAD", url, expect: [200, 404, ...redirects] });
  await answer.discard();
  if (answer.status === 200 || answer.status === 404) return answer.status === 200;
  // Sent to an object store: whether it has the blob is found out by its first byte. An empty one has none (416).
  const first = await operation.send({
    method: "GET",
    url,
    headers: { range: "bytes=0-0" },
    expect: [200, 206, 416, 400, 403, 404],
  });
  await first.discard();
  return [200, 206, 416].includes(first.status);
}

/**
 * Makes a blob of another repository of the same registry appear here too, without sending it.
 *
 * @returns false where it has to be sent instead
 */
export async function mountBlob(
  repository: RepositoryContext,
  digest: Digest,
  from: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { opened, settings } = repository;
  const operation = operationOn(repository, {
    operation: "mount the blob",
    subject: `${repository.name}@${digest}`,
    scopes: [pushScope(repository), `repository:${from}:pull`],
    signal,
  });
  const query = `mount=${encodeURIComponent(digest)}&from=${encodeURIComponent(from)}`;
  const request = {
    method: "POST",
    url: addressOf(repository, `blobs/uploads/?${query}`),
    // A registry that cannot or will not mount says so in many ways; after each of them the blob has to be sent.
    expect: [201, 202, 400, 401, 403, 404, 405],
  } as const;
  const answer = await operation.send(request).catch((error: unknown) => {
    // So does a token server that gives no token for both repositories. Where it gives none for this one either, the
    // upload that follows says so.
    if (error instanceof SporeletError && refusals.has(error.code)) return undefined;
    throw error;
  });
  if (answer === undefined) return false;
  await answer.discard();
  if (answer.status === 202) {
    const location = follow(answer.header("location"), answer.url, settings.plainHttp, operation.context);
    opened.set(digest, location);
  }
  return answer.status === 201;
}
