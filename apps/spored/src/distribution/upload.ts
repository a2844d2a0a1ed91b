import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import type { RegistryClient, Repository, UploadSessions } from "@sporelet/oci";
import type { PublishedLayer } from "@sporelet/store";
import type { Node } from "../node.ts";
import { allOrStop, createGate, createQueues } from "../together.ts";
import { downloadBlob } from "./download.ts";
import { titleOf } from "./layers.ts";
import type { ItemReport, Reports } from "./reports.ts";
import { uploadSessions } from "./sessions.ts";

/** Blobs that go up side by side: enough to hide round trips, few enough for registries that limit rates. */
const uploadsAtOnce = 4;

/** The same blob is sent to the same place once, however many pushes need it. */
const queues = createQueues();

/** A blob that is neither here nor in the registry, nor anywhere else that is known. */
export class BlobsLostError extends Error {}

export interface UploadAccess {
  /** For what has to be fetched from another registry first. */
  clientFor(registry: string): RegistryClient;
  repository: Repository;
  /** Host of the registry that is pushed to. */
  registry: string;
}

/** Brings all blobs of a snapshot into a repository: what is there is left, what is elsewhere in the registry mounted. */
export async function uploadLayers(
  node: Node,
  layers: readonly PublishedLayer[],
  access: UploadAccess,
  reports: Reports,
  signal: AbortSignal,
): Promise<{ sentBytes: number; reusedBytes: number }> {
  const origins = await originsOf(node, layers);
  const unreachable = new Set<string>();
  const sessions = await uploadSessions(path.join(node.store.root, "uploads"));
  const gate = createGate(uploadsAtOnce);
  const unique = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
  const outcomes = await allOrStop(
    unique.map(
      (layer) => (until: AbortSignal) =>
        gate(async () => {
          const report = reports.item(`up ${layer.digest}`, titleOf(layer, layers));
          const known = origins.get(layer.digest) ?? [];
          const upload = { ...access, origins: known, unreachable, sessions, report, signal: until };
          // Two that send the same at once would go on with each other's session.
          const place = `${node.store.root} ${access.repository.name}@${layer.digest}`;
          return await queues(place, () => uploadLayer(node, layer, upload), until);
        }, until),
    ),
    signal,
  );
  const sum = (kind: "sent" | "reused") =>
    outcomes.reduce((bytes, outcome, i) => bytes + (outcome === kind ? (unique[i]?.sizeBytes ?? 0) : 0), 0);
  return { sentBytes: sum("sent"), reusedBytes: sum("reused") };
}

/** Repositories that are known to have a blob, by its digest: whatever snapshot it was sent or fetched with. */
async function originsOf(
  node: Node,
  layers: readonly PublishedLayer[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const origins = new Map<string, string[]>(layers.map(({ digest }) => [digest, []]));
  for (const { digest } of await node.store.list(() => {})) {
    // One that cannot be read only hides where blobs could be had more cheaply.
    const published = await node.store.publications.get(digest).catch(() => undefined);
    for (const layer of published?.layers ?? []) {
      const known = origins.get(layer.digest);
      known?.push(...(published?.origins ?? []).filter((origin) => !known.includes(origin)));
    }
  }
  return origins;
}

interface Upload extends UploadAccess {
  /** Repositories that have it. */
  origins: readonly string[];
  /** Those that did not answer: one blob's patience is enough. */
  unreachable: Set<string>;
  sessions: UploadSessions;
  report: ItemReport;
  signal: AbortSignal;
}

async function uploadLayer(node: Node, layer: PublishedLayer, upload: Upload): Promise<"sent" | "reused"> {
  const { repository, report, signal } = upload;
  const { digest, sizeBytes } = layer;
  if (await repository.hasBlob(digest, signal)) {
    report.state("exists", sizeBytes);
    return "reused";
  }
  if (await mount(layer, upload)) {
    report.state("mounted", sizeBytes);
    return "reused";
  }
  if (!(await node.store.blobs.has(digest))) await fetchElsewhere(node, layer, upload);
  report.state("transferring", sizeBytes);
  const file = node.store.blobs.path(digest);
  try {
    await repository.pushBlob(
      { digest, size: sizeBytes, read: (offset) => createReadStream(file, { start: offset }) },
      { sessions: upload.sessions, onProgress: (sent) => report.progress(sent), signal },
    );
  } catch (error) {
    if (!(error instanceof SporeletError) || error.code !== "corrupt") throw error;
    if ((await digestOf(file, signal)) === digest) throw error; // It is the registry that is wrong.
    await node.store.blobs.remove(digest, { force: true });
    throw new BlobsLostError(`blob ${digest} was damaged in the store`);
  }
  report.state("done", sizeBytes);
  return "sent";
}

async function digestOf(file: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { signal })) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}

/** From another repository of the same registry, when it is known to be in one. */
async function mount({ digest }: PublishedLayer, upload: Upload): Promise<boolean> {
  const { repository, registry, origins, signal } = upload;
  for (const origin of origins) {
    const [host = "", ...rest] = origin.split("/");
    if (host !== registry || origin === repository.name) continue;
    if (await repository.mountBlob(digest, rest.join("/"), signal)) return true;
  }
  return false;
}

/** Into the store, from a registry that it was pulled from or pushed to. */
async function fetchElsewhere(node: Node, layer: PublishedLayer, upload: Upload): Promise<void> {
  const { clientFor, repository, origins, unreachable, report, signal } = upload;
  for (const origin of origins) {
    if (origin === repository.name || unreachable.has(origin)) continue;
    const [host = "", ...rest] = origin.split("/");
    try {
      await downloadBlob(node, clientFor(host).repository(host, rest.join("/")), layer, report, signal);
      return;
    } catch (error) {
      if (signal.aborted || !(error instanceof SporeletError)) throw error;
      if (error.code === "resource_exhausted") throw error;
      if (error.code === "unavailable") unreachable.add(origin);
      // Gone from there too, or not to be reached: the next one, or it is encoded again.
    }
  }
  throw new BlobsLostError(`blob ${layer.digest} is neither here nor in a registry that is known`);
}
