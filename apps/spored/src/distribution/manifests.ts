import { SporeletError } from "@sporelet/errors";
import {
  artifactIndex,
  type Content,
  launcherImage,
  mediaTypes,
  parseArtifact,
  type Repository,
  snapshotManifest,
  type Variant,
} from "@sporelet/oci";
import type { Digest } from "@sporelet/page-image";
import type { PublishedLayer, StoredSnapshot } from "@sporelet/store";
import { requirementsOf, sameHosts } from "../requirements.ts";
import { descriptorOf } from "./layers.ts";
import { storedConfig } from "./plain.ts";

/** The names that Go gives to what `uname -m` calls x86_64 and aarch64; OCI took them over. */
const architectures: Record<string, string> = { x64: "amd64", arm64: "arm64" };

/** A variant as it is written into an index. */
type ListedVariant = Parameters<typeof artifactIndex>[0]["variants"][number];

export interface PublishOptions {
  repository: Repository;
  tag: string;
  snapshot: StoredSnapshot;
  layers: readonly PublishedLayer[];
  /** Keep what the tag names already for other hosts. */
  addVariant: boolean;
  signal: AbortSignal;
}

/**
 * Sends what names the blobs, children before what refers to them: config, artifact, launcher, and last the
 * index, which makes it all visible at once.
 */
export async function publishManifests(
  options: PublishOptions,
): Promise<{ digest: Digest; sentBytes: number }> {
  const { repository, tag, snapshot, layers, addVariant, signal } = options;
  const configBytes = await storedConfig(snapshot);
  const { manifest, config } = snapshotManifest({
    config: configBytes,
    layers: layers.map(descriptorOf),
  });
  const architecture = architectures[process.arch] ?? process.arch;
  const launcher = launcherImage(manifest.descriptor, { architecture });
  const variant: ListedVariant = {
    artifact: manifest.descriptor,
    launcher: launcher.manifest.descriptor,
    architecture,
    snapshot: snapshot.digest,
    requirements: requirementsOf(snapshot.config),
  };
  const others = addVariant ? await otherVariants(repository, tag, variant, signal) : [];
  const index = artifactIndex({ variants: [variant, ...others] });
  let sentBytes = 0;
  for (const blob of [config, launcher.config, launcher.layer]) {
    if ((await pushBytes(repository, blob, signal)) === "pushed") sentBytes += blob.bytes.length;
  }
  const send = async ({ bytes, descriptor }: Content, reference: string) => {
    await repository.pushManifest(bytes, descriptor.mediaType, reference, signal);
    sentBytes += bytes.length;
  };
  await send(manifest, manifest.descriptor.digest);
  await send(launcher.manifest, launcher.manifest.descriptor.digest);
  await send(index, tag);
  return { digest: index.descriptor.digest, sentBytes };
}

async function pushBytes(
  repository: Repository,
  { bytes, descriptor: { digest, size } }: Content,
  signal: AbortSignal,
): Promise<"exists" | "pushed"> {
  const read = async function* (offset: number) {
    yield bytes.subarray(offset);
  };
  return await repository.pushBlob({ digest, size, read }, { signal });
}

/** What the tag lists for hosts of other kinds: one variant for each kind of host. */
async function otherVariants(
  repository: Repository,
  tag: string,
  ours: Variant,
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
    if (sameHosts(variant, ours) || launcher === undefined) return [];
    const architecture = launcher.platform?.architecture ?? "amd64";
    return [{ ...variant, launcher, architecture }];
  });
}
