import type { HandlerContext } from "@connectrpc/connect";
import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { formatImageReference, parseImageReference, type SnapshotManifest } from "@sporelet/oci";
import { normalizeReference, type StoredSnapshot } from "@sporelet/store";
import { snapshotMessage } from "../messages.ts";
import type { Node } from "../node.ts";
import { type RegistryAccess, registryClient } from "./client.ts";
import { fetchSnapshot } from "./fetch.ts";
import { type LocatedSnapshot, locate } from "./locate.ts";
import { fetchPlain } from "./plain.ts";
import type { Reports } from "./reports.ts";
import { createShared } from "./shared.ts";
import { transferStream } from "./stream.ts";

/** Pull: fetches a snapshot. */
export function pull(
  node: Node,
  request: api.PullRequest,
  context: HandlerContext,
): AsyncGenerator<api.TransferEvent> {
  const { reference, tag, registry } = request;
  const what = { operation: "pull", subject: reference };
  return transferStream(node, context, what, async (reports, signal) => {
    const snapshot = await pullSnapshot(node, { reference, tag, access: registry }, reports, signal);
    return { case: "result", value: snapshotMessage(snapshot, true) };
  });
}

export interface PullOptions {
  /** `host/repository[:tag|@digest]` */
  reference: string;
  /** Its name here. Empty: the reference, when that is no digest. */
  tag: string;
  access: RegistryAccess | undefined;
}

const fetches = createShared<StoredSnapshot>();

/** Fetches a snapshot whole, unless it is here, and names it. The same one is fetched once, however often it is asked for. */
export async function pullSnapshot(
  node: Node,
  { reference, tag, access }: PullOptions,
  reports: Reports,
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  const parsed = parseImageReference(reference);
  const { registry, repository, tag: remoteTag = "latest", digest } = parsed;
  const ownName = digest === undefined ? formatImageReference({ registry, repository, tag: remoteTag }) : "";
  // Before the work, not after it.
  const name = tag || ownName ? normalizeReference(tag || ownName) : undefined;
  // What it brings into the store stays until it has its name.
  using _lease = node.store.lease(undefined, `pull of ${reference}`);
  await using client = registryClient(access, reports.notice);
  const located = await locate(node, client.repository(registry, repository), parsed, reports, signal);
  const snapshot = await fetchLocated(node, located, reports, signal);
  return name === undefined ? snapshot : await node.store.tag(snapshot.digest, name);
}

/** What was located, in the store. */
async function fetchLocated(
  node: Node,
  { artifact, repository, name }: LocatedSnapshot,
  reports: Reports,
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  if (artifact.kind === "plain") {
    const key = JSON.stringify([...artifact.files].map(([title, { digest }]) => [title, digest]));
    return await fetches(
      `${node.store.root} ${key}`,
      (shared, sharedSignal) => fetchPlain(node, repository, artifact, name, shared, sharedSignal),
      reports,
      signal,
    );
  }
  const known = await storedAlready(node, artifact);
  if (known !== undefined) {
    reports.item(known.digest, "snapshot").state("exists");
    return known;
  }
  return await fetches(
    `${node.store.root} ${artifact.config.digest}`,
    (shared, sharedSignal) => fetchSnapshot(node, repository, artifact, name, shared, sharedSignal),
    reports,
    signal,
  );
}

/** The digest of the config is that of the snapshot, wherever it is. */
async function storedAlready(
  node: Node,
  { config: { digest } }: SnapshotManifest,
): Promise<StoredSnapshot | undefined> {
  try {
    return await node.store.resolve(digest);
  } catch (error) {
    if (error instanceof SporeletError && error.code === "not_found") return undefined;
    throw error;
  }
}
