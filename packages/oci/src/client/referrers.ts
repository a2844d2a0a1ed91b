import { setTimeout as delay } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { artifactLimits } from "../artifact/limits.ts";
import { artifactTypeOf } from "../artifact/snapshot.ts";
import { type Descriptor, parseAnnotations, parseDescriptor } from "../descriptor.ts";
import { type Digest, isDigest } from "../digest.ts";
import { canonicalJson, isObject, type JsonObject, parseJsonObject } from "../json.ts";
import { mediaTypes } from "../media-types.ts";
import { addressOf, operationOn, pullScope, type RepositoryContext } from "./call.ts";
import type { Answer } from "./exchange.ts";
import { pushManifest, readManifest } from "./manifests.ts";

/** What refers to a manifest: launchers, signatures. From the registry's API, or from the tag that stands in for it. */
export async function listReferrers(
  repository: RepositoryContext,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Descriptor[]> {
  const context = { operation: "list what refers to", subject: `${repository.name}@${digest}` };
  const operation = operationOn(repository, { ...context, scopes: [pullScope(repository)], signal });
  const url = addressOf(repository, `referrers/${digest}`);
  const answer = await operation.send({ method: "GET", url, expect: [200, 404] });
  const text = await answer.text(artifactLimits.manifestBytes);
  if (answer.status === 200) return entriesOf(parseJsonObject(Buffer.from(text), context), context);
  return (await readFallback(repository, digest, signal)) ?? [];
}

/**
 * Sends a manifest, and where the registry does not note what its `subject` is, notes it in an index under a tag
 * made of the subject's digest, as distribution-spec 1.1 wants it ("Referrers Tag Schema").
 */
export async function pushWithSubject(
  repository: RepositoryContext,
  bytes: Buffer,
  mediaType: string,
  tagOrDigest: string,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  const { descriptor, answer } = await pushManifest(repository, bytes, mediaType, tagOrDigest, signal);
  const manifest = manifestOf(bytes);
  const subject = isObject(manifest?.subject) ? manifest.subject.digest : undefined;
  if (manifest === undefined || !isDigest(subject) || notedBy(answer)) return descriptor;
  const context = { operation: "describe", subject: descriptor.digest };
  const annotations = parseAnnotations(manifest, "the manifest", context);
  const entry = {
    ...descriptor,
    artifactType: artifactTypeOf(manifest),
    ...(annotations === undefined ? {} : { annotations }),
  };
  await noteInFallback(repository, subject, entry, signal);
  return descriptor;
}

/** So often others may write the list at the same time. */
const mostRounds = 5;
/** Before it is written again: anything up to this, twice as much each time, so that two do not keep step. */
const firstDelayMs = 100;

/**
 * Adds an entry to the list of a subject's referrers. Registries offer no way to change a tag only if nobody else
 * has, so the list is read again after it was written, and written again where the entry is missing: somebody who had
 * read it before wrote it after us. What is lost even so is one whose writer had looked before that happened.
 */
async function noteInFallback(
  repository: RepositoryContext,
  subject: Digest,
  entry: Descriptor,
  signal: AbortSignal | undefined,
): Promise<void> {
  const tag = fallbackTag(subject);
  for (let round = 0; ; round++) {
    const others = (await readFallback(repository, subject, signal)) ?? [];
    if (others.some(({ digest }) => digest === entry.digest)) return;
    if (round === mostRounds) break;
    const delayMs = round === 0 ? 0 : Math.random() * firstDelayMs * 2 ** (round - 1);
    await delay(delayMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
    const index = canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.index,
      manifests: [...others, entry],
    });
    await pushManifest(repository, index, mediaTypes.index, tag, signal);
  }
  throw new SporeletError({
    code: "unavailable",
    operation: "note the referrer in",
    subject: `${repository.name}:${tag}`,
    reason: `others wrote the same list each of the ${mostRounds} times that it was written`,
    hint: "try again",
  });
}

/** A registry that keeps track of referrers says so in its answer. */
function notedBy(answer: Answer): boolean {
  return answer.header("oci-subject") !== undefined;
}

function fallbackTag(digest: Digest): string {
  return digest.replace(":", "-");
}

async function readFallback(
  repository: RepositoryContext,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Descriptor[] | undefined> {
  try {
    const { bytes } = await readManifest(repository, fallbackTag(digest), { signal });
    const context = {
      operation: "read the list of referrers",
      subject: `${repository.name}:${fallbackTag(digest)}`,
    };
    return entriesOf(parseJsonObject(bytes, context), context);
  } catch (error) {
    if (error instanceof SporeletError && error.code === "not_found") return undefined;
    throw error;
  }
}

function entriesOf(index: JsonObject, context: { operation: string; subject: string }): Descriptor[] {
  const { manifests = [] } = index as { manifests?: unknown[] };
  if (!Array.isArray(manifests)) return [];
  return manifests.map((entry, i) =>
    parseDescriptor(entry, `manifests[${i}]`, artifactLimits.manifestBytes, context),
  );
}

function manifestOf(bytes: Buffer): JsonObject | undefined {
  try {
    const manifest: unknown = JSON.parse(bytes.toString());
    return isObject(manifest) ? manifest : undefined;
  } catch {
    // What is not JSON has no subject; whether it is a manifest is the registry's to say.
    return undefined;
  }
}
