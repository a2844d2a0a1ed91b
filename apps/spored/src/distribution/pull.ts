import type { HandlerContext } from "@connectrpc/connect";
import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { type ImageReference, parseImageReference, type Repository } from "@sporelet/oci";
import { normalizeReference, type StoredSnapshot } from "@sporelet/store";
import { snapshotMessage } from "../messages.ts";
import type { Node } from "../node.ts";
import { removeUnnamed } from "../snapshots.ts";
import { unlessAborted } from "../together.ts";
import { type RegistryAccess, registryClient } from "./client.ts";
import { contentKey } from "./content-key.ts";
import { fetchSnapshot } from "./fetch.ts";
import { type LocatedSnapshot, locate } from "./locate.ts";
import { isStored, ownName } from "./names.ts";
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

type SharedWork = [reports: Reports, signal: AbortSignal];

const fetches = createShared<StoredSnapshot>();

/** Fetches a snapshot whole, unless it is here, and names it. The same one is fetched once, however often it is asked for. */
export async function pullSnapshot(
  node: Node,
  { reference, tag, access }: PullOptions,
  reports: Reports,
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  const parsed = parseImageReference(reference);
  const { registry, repository } = parsed;
  // Before the work, not after it.
  const name = tag ? normalizeReference(tag) : ownName(parsed);
  // What it brings into the store stays until it has its name.
  using _lease = node.store.lease(undefined, `pull of ${reference}`);
  await using client = registryClient(access, reports.notice);
  const located = await locate(node, client.repository(registry, repository), parsed, reports, signal);
  const { snapshot, arrived } = await fetchLocated(node, { located, parsed, access }, reports, signal);
  if (name === undefined) return snapshot;
  try {
    return await node.store.tag(snapshot.digest, name);
  } catch (error) {
    if (arrived) await removeUnnamed(node, snapshot.digest);
    throw error;
  }
}

/** What was located, in the store, and whether it has come there by this. */
async function fetchLocated(
  node: Node,
  {
    located: { artifact, name },
    parsed,
    access,
  }: { located: LocatedSnapshot; parsed: ImageReference; access: RegistryAccess | undefined },
  reports: Reports,
  signal: AbortSignal,
): Promise<{ snapshot: StoredSnapshot; arrived: boolean }> {
  const { registry, repository: path } = parsed;
  /** With a client of its own: whoever began it may leave while others go on waiting. */
  const share = async (
    key: string,
    work: (client: Repository, ...shared: SharedWork) => Promise<StoredSnapshot>,
  ) => {
    const snapshot = await fetches(
      `${node.store.root} ${key}`,
      async (shared, sharedSignal) => {
        using _lease = node.store.lease(undefined, `pull of ${name}`);
        await using client = registryClient(access, shared.notice);
        return await work(client.repository(registry, path), shared, sharedSignal);
      },
      reports,
      signal,
    );
    return { snapshot, arrived: true };
  };
  if (artifact.kind === "plain") {
    const files = [...artifact.files].map(([title, { digest }]) => [title, digest]);
    return await share(JSON.stringify([registry, path, files]), (repository, ...shared) =>
      fetchPlain(node, repository, artifact, name, ...shared),
    );
  }
  // The digest of the config is that of the snapshot, wherever it is: what is in the store was compared with it.
  const { digest } = artifact.config;
  if (await isStored(node, digest)) {
    reports.item(digest, "snapshot").state("exists");
    return { snapshot: await node.store.resolve(digest), arrived: false };
  }
  const wanted = { digest, layers: artifact, origin: { registry, repository: path } };
  const arriving = node.lazy.joins(wanted);
  if (arriving !== undefined) {
    reports.notice("it is being fetched already, for machines that run: waiting for that");
    try {
      return { snapshot: await unlessAborted(arriving, signal), arrived: false };
    } catch (error) {
      signal.throwIfAborted();
      const { reason } = SporeletError.from(error, { operation: "fetch", subject: name });
      reports.notice(`that has failed (${reason}): it is fetched once more`);
    }
  }
  return await share(contentKey(wanted), (repository, ...shared) =>
    fetchSnapshot(node, repository, artifact, name, ...shared),
  );
}
