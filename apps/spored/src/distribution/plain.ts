import { readFile } from "node:fs/promises";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import { copySparse } from "@sporelet/host";
import type { Descriptor, PlainArtifact, Repository } from "@sporelet/oci";
import { type PublishedLayer, parseConfig, type SnapshotFile, type StoredSnapshot } from "@sporelet/store";
import type { Node } from "../node.ts";
import { together } from "../together.ts";
import { requireAgreement } from "./agreement.ts";
import { downloadBlob } from "./download.ts";
import type { Reports } from "./reports.ts";
import { requireRoom } from "./room.ts";

/** Names of the files as `sporectl export` writes them, without `layer1.`; what people push with ORAS. */
export const plainNames = {
  memory: "mem",
  vmstate: "vmstate",
  disk: "disk",
  kernel: "kernel",
  initramfs: "initramfs",
  workingset: "workingset",
} as const satisfies Record<SnapshotFile, string>;

/** A config larger than this is none. */
const longestConfigBytes = 1024 * 1024;

/** Fetches what plain `oras push` made of a snapshot's files; they are verified against the config among them. */
export async function fetchPlain(
  node: Node,
  repository: Repository,
  artifact: PlainArtifact,
  name: string,
  reports: Reports,
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  const { config: configDescriptor, files } = filesOf(artifact, name);
  const maxBytes = longestConfigBytes;
  const configBytes = await repository.readBlob(configDescriptor, { signal, maxBytes });
  const config = parseConfig(configBytes.toString("utf8"), `${name}'s config`);
  requireAgreement(name, config, new Map([...files].map(([file, { size }]) => [file, size])));
  const layers = [...files].map(
    ([file, { mediaType, digest, size }]): PublishedLayer => ({
      ...{ file, mediaType, digest, sizeBytes: size },
      annotations: {},
    }),
  );
  await requireRoom(node, name, { config, layers });
  const digests = layers.map(({ digest }) => digest);
  using leases = new DisposableStack();
  leases.use(node.store.leaseBlobs(digests, `pull of ${name}`));
  await using draft = await node.store.newSnapshot();
  await together(
    layers.map(async (layer) => {
      const report = reports.item(`down ${layer.digest}`, layer.file);
      await downloadBlob(node, repository, layer, report, signal);
      // Zeros travelled; here they are holes.
      await copySparse(node.store.blobs.path(layer.digest), path.join(draft.directory, layer.file), signal);
      await draft.verify(layer.file, config, { name, signal });
    }),
  );
  const snapshot = await draft.adopt(configBytes, undefined, { name, signal });
  // Whole files are worth nothing as blobs: what is published later is compressed. Those that another pull has
  // leased are removed by that.
  leases.dispose();
  await together(digests.map((digest) => node.store.blobs.remove(digest)));
  return snapshot;
}

/** @throws SporeletError `incompatible` when it lacks one that no machine can be without */
function filesOf(
  { files }: PlainArtifact,
  name: string,
): { config: Descriptor; files: Map<SnapshotFile, Descriptor> } {
  const byEnding = new Map<string, Descriptor>();
  for (const [title, descriptor] of files) {
    const ending = /^layer\d+\.([a-z]+)$/.exec(title)?.[1];
    if (ending !== undefined) byEnding.set(ending, descriptor);
  }
  const config = byEnding.get("config");
  const missing = ["mem", "vmstate", "config"].filter((ending) => !byEnding.has(ending));
  if (config === undefined || missing.length > 0) {
    throw new SporeletError({
      code: "incompatible",
      operation: "read the artifact",
      subject: name,
      reason: `it lacks ${missing.map((ending) => `layer1.${ending}`).join(", ")}`,
      hint: "push the files that sporectl export writes",
    });
  }
  const found = new Map<SnapshotFile, Descriptor>();
  for (const [file, ending] of Object.entries(plainNames) as [SnapshotFile, string][]) {
    const descriptor = byEnding.get(ending);
    if (descriptor !== undefined) found.set(file, descriptor);
  }
  return { config, files: found };
}

/** Reads the config of a snapshot as it is stored, to the byte. */
export function storedConfig(snapshot: StoredSnapshot): Promise<Buffer> {
  return readFile(path.join(snapshot.directory, "config.json"));
}
