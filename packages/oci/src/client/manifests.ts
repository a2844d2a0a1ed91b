import { SporeletError } from "@sporelet/errors";
import { artifactLimits } from "../artifact/limits.ts";
import type { Content, Descriptor } from "../descriptor.ts";
import { type Digest, isDigest, sha256 } from "../digest.ts";
import { corrupt } from "../json.ts";
import { manifestMediaTypes, mediaTypes } from "../media-types.ts";
import { isTag } from "../reference.ts";
import { addressOf, operationOn, pullScope, pushScope, type RepositoryContext } from "./call.ts";
import type { Answer } from "./exchange.ts";
import { type OperationContext, Transient } from "./retry.ts";
import { redirects } from "./transport.ts";

const accept = [...manifestMediaTypes, "*/*;q=0.1"].join(", ");

/** The manifest that a tag or digest names, without its content where the registry can tell. */
export async function resolveManifest(
  repository: RepositoryContext,
  tagOrDigest: string,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  const operation = begin(repository, "resolve", tagOrDigest, pullScope(repository), signal);
  const url = addressOf(repository, `manifests/${tagOrDigest}`);
  const answer = await explained(operation.context, tagOrDigest, () =>
    operation.send({ method: "HEAD", url, headers: { accept }, expect: [200, 405, ...redirects] }),
  );
  await answer.discard();
  const digest = answer.header("docker-content-digest");
  const size = Number(answer.header("content-length"));
  const mediaType = mediaTypeOf(answer);
  // Both headers are optional in the specification; what they would say is in the content.
  if (answer.status !== 200 || !isDigest(digest) || !(size > 0) || mediaType === undefined) {
    return (await readManifest(repository, tagOrDigest, { signal })).descriptor;
  }
  if (isDigest(tagOrDigest) && digest !== tagOrDigest) throw anotherDigest(operation.context, digest);
  if (size > artifactLimits.manifestBytes) throw tooLarge(operation.context, artifactLimits.manifestBytes);
  return { mediaType, digest, size };
}

/** A manifest with its content, verified. */
export async function readManifest(
  repository: RepositoryContext,
  tagOrDigest: string,
  options: { signal?: AbortSignal | undefined; maxBytes?: number | undefined },
): Promise<Content> {
  const { signal, maxBytes = artifactLimits.manifestBytes } = options;
  const operation = begin(repository, "read the manifest of", tagOrDigest, pullScope(repository), signal);
  const { context } = operation;
  const url = addressOf(repository, `manifests/${tagOrDigest}`);
  return explained(context, tagOrDigest, () =>
    operation.attempts.run(async () => {
      const answer = await operation.once({ method: "GET", url, headers: { accept }, expect: [200] });
      const bytes = await wholeBody(answer, maxBytes, context);
      const digest = sha256(bytes);
      const claimed = answer.header("docker-content-digest");
      if (isDigest(tagOrDigest) && digest !== tagOrDigest) throw anotherDigest(context, digest);
      if (isDigest(claimed) && claimed !== digest) {
        throw corrupt(context, `the registry says that its digest is ${claimed}, but it is ${digest}`);
      }
      return { descriptor: { mediaType: mediaTypeOf(answer, bytes), digest, size: bytes.length }, bytes };
    }),
  );
}

/** Sends a manifest. All that it names has to be there. */
export async function pushManifest(
  repository: RepositoryContext,
  bytes: Buffer,
  mediaType: string,
  tagOrDigest: string,
  signal: AbortSignal | undefined,
): Promise<{ descriptor: Descriptor; answer: Answer }> {
  const operation = begin(repository, "push the manifest to", tagOrDigest, pushScope(repository), signal);
  const digest = sha256(bytes);
  if (isDigest(tagOrDigest) && tagOrDigest !== digest) throw anotherDigest(operation.context, digest);
  const answer = await operation.send({
    method: "PUT",
    url: addressOf(repository, `manifests/${tagOrDigest}`),
    headers: { "content-type": mediaType },
    body: { size: bytes.length, open: () => once(bytes) },
    expect: [201, 200, 202],
  });
  await answer.discard();
  const stored = answer.header("docker-content-digest");
  // Some registries rewrite manifests; what was signed and pinned would then not be what is stored.
  if (isDigest(stored) && stored !== digest) throw anotherDigest(operation.context, stored);
  return { descriptor: { mediaType, digest, size: bytes.length }, answer };
}

export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function begin(
  repository: RepositoryContext,
  operation: string,
  tagOrDigest: string,
  scope: string,
  signal: AbortSignal | undefined,
) {
  const subject = `${repository.name}${isDigest(tagOrDigest) ? "@" : ":"}${tagOrDigest}`;
  if (!isDigest(tagOrDigest) && !isTag(tagOrDigest)) {
    const reason = "it is neither a tag nor a digest";
    throw new SporeletError({ code: "invalid_argument", operation, subject, reason });
  }
  return operationOn(repository, { operation, subject, scopes: [scope], signal });
}

/** Says of a 404 what is missing. */
async function explained<T>(
  context: OperationContext,
  tagOrDigest: string,
  run: () => Promise<T>,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof SporeletError) || error.code !== "not_found") throw error;
    throw new SporeletError({
      ...context,
      code: "not_found",
      reason: `the registry has no such ${isDigest(tagOrDigest) ? "manifest" : "repository or tag"}`,
      hint: "check the name; in a private repository a login may be needed too",
      cause: error,
    });
  }
}

async function wholeBody(answer: Answer, maxBytes: number, context: OperationContext): Promise<Buffer> {
  const expected = Number(answer.header("content-length") ?? Number.NaN);
  if (expected > maxBytes) {
    void answer.discard();
    throw tooLarge(context, maxBytes);
  }
  const parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer.body()) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(context, maxBytes);
    parts.push(chunk);
  }
  if (!Number.isNaN(expected) && size !== expected) {
    const reason = `it ended after ${size} of ${expected} bytes`;
    throw new Transient(new SporeletError({ ...context, code: "unavailable", reason }));
  }
  return Buffer.concat(parts);
}

function mediaTypeOf(answer: Answer): string | undefined;
function mediaTypeOf(answer: Answer, bytes: Buffer): string;
function mediaTypeOf(answer: Answer, bytes?: Buffer): string | undefined {
  const type = answer.header("content-type")?.split(";", 1)[0]?.trim();
  if (bytes === undefined) return type;
  if (type !== undefined && manifestMediaTypes.includes(type)) return type;
  try {
    const { mediaType } = JSON.parse(bytes.toString()) as { mediaType?: unknown };
    if (typeof mediaType === "string") return mediaType;
  } catch {
    // Whoever reads the manifest says so with more words.
  }
  return type ?? mediaTypes.manifest;
}

function anotherDigest(context: OperationContext, digest: Digest): SporeletError {
  return corrupt(context, `the registry has another manifest there: ${digest}`);
}

function tooLarge(context: OperationContext, maxBytes: number): SporeletError {
  return corrupt(context, `it has more than ${maxBytes} bytes`);
}
