import { hostArchitecture } from "@sporelet/host";
import { type Content, launcherImage, type Repository, snapshotManifest } from "@sporelet/oci";
import type { Digest } from "@sporelet/page-image";
import type { PublishedLayer, StoredSnapshot } from "@sporelet/store";
import { requirementsOf } from "../requirements.ts";
import { descriptorOf } from "./layers.ts";
import { storedConfig } from "./plain.ts";
import { type ListedVariant, publishIndex } from "./publish-index.ts";

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
  const architecture = hostArchitecture();
  const launcher = launcherImage(manifest.descriptor, { architecture });
  const variant: ListedVariant = {
    artifact: manifest.descriptor,
    launcher: launcher.manifest.descriptor,
    architecture,
    snapshot: snapshot.digest,
    requirements: requirementsOf(snapshot.config),
  };
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
  const index = await publishIndex({ repository, tag, variant, addVariant, signal });
  return { digest: index.digest, sentBytes: sentBytes + index.sentBytes };
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
