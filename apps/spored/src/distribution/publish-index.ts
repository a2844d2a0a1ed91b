import { setTimeout as delay } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { artifactIndex, mediaTypes, parseArtifact, type Repository } from "@sporelet/oci";
import type { Digest } from "@sporelet/page-image";
import { sameHosts } from "../requirements.ts";
import { createQueues } from "../together.ts";

/** A variant as it is written into an index. */
export type ListedVariant = Parameters<typeof artifactIndex>[0]["variants"][number];

export interface IndexOptions {
  repository: Repository;
  tag: string;
  /** What is published; its manifests are there. */
  variant: ListedVariant;
  /** Keep what the tag names already for other hosts. */
  addVariant: boolean;
  signal: AbortSignal;
}

/** So often others may write the tag that a variant is added to at the same time. */
const mostRounds = 5;
/** Before it is written again: anything up to this, twice as much each time, so that two do not keep step. */
const firstDelayMs = 100;

/** Pushes of this spored to the same tag come one after the other. */
const queues = createQueues();

/** Sends the index, and gives it the tag. */
export async function publishIndex(options: IndexOptions): Promise<{ digest: Digest; sentBytes: number }> {
  const { repository, tag, variant, addVariant, signal } = options;
  const send = async (others: readonly ListedVariant[]) => {
    const { bytes, descriptor } = artifactIndex({ variants: [variant, ...others] });
    await repository.pushManifest(bytes, descriptor.mediaType, tag, signal);
    return { digest: descriptor.digest, sentBytes: bytes.length };
  };
  const write = async () => (addVariant ? await add(options, send) : await send([]));
  return await queues(`${repository.name}:${tag}`, write, signal);
}

/**
 * Adds the variant to what the tag names: one for each kind of host. Registries offer no way to change a tag only if
 * nobody else has, so it is read again after it was written, and written again where the variant is missing: somebody
 * who had read it before wrote it after us. What is lost even so is a variant whose writer had looked before that
 * happened.
 */
async function add<T>(
  { repository, tag, variant, signal }: IndexOptions,
  send: (others: readonly ListedVariant[]) => Promise<T>,
): Promise<T> {
  /** Variants for the same hosts whose place ours takes. One that comes later takes the place of ours. */
  const replaced = new Set<Digest>();
  const takesPlace = (other: ListedVariant) =>
    sameHosts(other, variant) &&
    (other.artifact.digest === variant.artifact.digest || !replaced.has(other.artifact.digest));
  for (let round = 0; round < mostRounds; round++) {
    if (round > 0) await backOff(round, signal);
    const listed = await listedUnder(repository, tag, signal);
    for (const other of listed) if (sameHosts(other, variant)) replaced.add(other.artifact.digest);
    const sent = await send(listed.filter((other) => !sameHosts(other, variant)));
    if ((await listedUnder(repository, tag, signal)).some(takesPlace)) return sent;
  }
  throw new SporeletError({
    code: "unavailable",
    operation: "add a variant to",
    subject: `${repository.name}:${tag}`,
    reason: `others wrote the same tag each of the ${mostRounds} times that it was written`,
    hint: "try again",
  });
}

async function backOff(round: number, signal: AbortSignal): Promise<void> {
  const delayMs = Math.random() * firstDelayMs * 2 ** (round - 1);
  await delay(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/** The variants that a tag lists; none when there is no such tag. */
async function listedUnder(
  repository: Repository,
  tag: string,
  signal: AbortSignal,
): Promise<ListedVariant[]> {
  const existing = await repository.manifest(tag, { signal }).catch((error: unknown) => {
    if (error instanceof SporeletError && error.code === "not_found") return undefined;
    throw error;
  });
  if (existing === undefined) return [];
  const subject = `${repository.name}:${tag}`;
  const artifact = parseArtifact(existing.bytes, subject);
  if (artifact.kind !== "index") {
    throw new SporeletError({
      code: "failed_precondition",
      operation: "add a variant to",
      subject,
      reason: `it is not an index of Sporelet's (${mediaTypes.index})`,
      hint: "choose another tag, or push without --add-variant, which replaces it",
    });
  }
  return artifact.variants.flatMap((variant) => {
    const { launcher } = variant;
    if (launcher === undefined) return [];
    const architecture = launcher.platform?.architecture ?? "amd64";
    return [{ ...variant, launcher, architecture }];
  });
}
