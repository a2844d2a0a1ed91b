import { parseImageReference } from "@sporelet/oci";
import { parseConfig, type StoredSnapshot } from "@sporelet/store";
import { whyNotResumable } from "../gate.ts";
import { gateHost } from "../gate-host.ts";
import type { Node } from "../node.ts";
import type { ObtainOptions, ObtainRequest } from "../obtain.ts";
import { plainAccess, registryClient } from "./client.ts";
import { layerOf } from "./layers.ts";
import { layersBeyond, localBase } from "./local-base.ts";
import { type LocatedSnapshot, locate } from "./locate.ts";
import { isStored, ownName } from "./names.ts";
import { pullSnapshot } from "./pull.ts";
import { createReports, type Reports } from "./reports.ts";

/** Where nothing else was asked for: a large snapshot over a slow line. */
const defaultTimeoutMs = 900_000;
/** Fetched in seconds over a slow line, of which a lazy start would take one. */
const mostPulledFirstBytes = 16 * 2 ** 20;

/**
 * A snapshot of a registry, for machines that are to be started from it: lazily, where this host can, or all of it.
 * It stays until the lease is disposed of.
 */
export async function obtainRemote(
  node: Node,
  request: ObtainRequest,
  options: ObtainOptions,
): Promise<{ snapshot: StoredSnapshot; lease: Disposable }> {
  const signal = AbortSignal.any([options.signal, options.time.atMost(defaultTimeoutMs)]);
  const reports = createReports((event) => {
    if (event.case === "item") options.onEvent({ case: "transfer", value: event.value });
    else if (event.case === "notice") options.onEvent(event);
  });
  const lazily = request.fetch !== "eager" && (await startLazily(node, request, reports, signal));
  if (lazily) return lazily;
  const { snapshot: reference, registry: access } = request;
  // By a digest it gets no name, and nothing else would keep it until it is leased.
  using _arriving = node.store.lease(undefined, `run of ${reference}`);
  const { digest } = await pullSnapshot(node, { reference, tag: "", access }, reports, signal);
  return await node.store.acquire(digest, "run");
}

/** @returns undefined when all of it has to be fetched first, or is here under another name */
async function startLazily(
  node: Node,
  { snapshot: text, registry: access }: ObtainRequest,
  reports: Reports,
  signal: AbortSignal,
): Promise<{ snapshot: StoredSnapshot; lease: Disposable } | undefined> {
  if (node.lazy.unavailable !== undefined) {
    reports.notice(`${text} is fetched as a whole before it starts: ${node.lazy.unavailable}`);
    return undefined;
  }
  const reference = parseImageReference(text);
  const { registry, repository } = reference;
  await using client = registryClient(access, reports.notice);
  // What stands against a state is said by the pull, which is then what follows.
  const quiet = createReports(() => {});
  const located = await locate(node, client.repository(registry, repository), reference, quiet, signal);
  const { artifact } = located;
  if (artifact.kind !== "snapshot" || (await isStored(node, artifact.config.digest))) return undefined;
  const configBytes = await located.repository.readBlob(artifact.config, { signal });
  const config = parseConfig(configBytes.toString("utf8"), located.name);
  if (whyNotResumable(config, await gateHost(node)) !== undefined) return undefined;
  if (await isSoonHere(node, artifact)) return undefined;
  const tag = ownName(reference);
  const lease = await node.lazy.start(
    {
      ...{ name: located.name, configBytes, ...layersOf(located, artifact) },
      origin: { access: plainAccess(access), registry, repository },
      ...(tag !== undefined && { tag }),
    },
    signal,
  );
  return { snapshot: lease.snapshot, lease };
}

/** Whether a pull takes little, because a snapshot that is here has most of it: that makes no FUSE necessary. */
async function isSoonHere(node: Node, { layers }: LocatedSnapshot["artifact"] & { kind: "snapshot" }) {
  const chain = layers.map(layerOf);
  using base = await localBase(node, chain);
  if (base === undefined) return false;
  const leftBytes = layersBeyond(base, chain).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return leftBytes <= mostPulledFirstBytes;
}

function layersOf(
  { repository }: LocatedSnapshot,
  artifact: LocatedSnapshot["artifact"] & { kind: "snapshot" },
) {
  const { memory, disk, files } = artifact;
  const publication = { layers: artifact.layers.map(layerOf), origins: [repository.name] };
  return { layers: { memory, disk, files }, publication };
}
