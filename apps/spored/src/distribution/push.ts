import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { formatImageReference, type ImageReference, parseImageReference } from "@sporelet/oci";
import type { StoredSnapshot } from "@sporelet/store";
import type { Node } from "../node.ts";
import { together } from "../together.ts";
import { plainAccess, registryClient } from "./client.ts";
import { publishManifests } from "./manifests.ts";
import { namesRegistry } from "./names.ts";
import { forgetPublication, publishedLayers } from "./publication.ts";
import type { Reports } from "./reports.ts";
import { requireCleanSnapshot } from "./secrets.ts";
import { transferStream } from "./stream.ts";
import { BlobsLostError, uploadLayers } from "./upload.ts";

/** Push: publishes a snapshot. */
export function push(
  node: Node,
  request: api.PushRequest,
  context: HandlerContext,
): AsyncGenerator<api.TransferEvent> {
  const what = { operation: "push", subject: request.snapshot };
  return transferStream(node, context, what, async (reports, signal) => {
    const value = await pushSnapshot(node, request, reports, signal);
    return { case: "pushed", value };
  });
}

async function pushSnapshot(
  node: Node,
  request: api.PushRequest,
  reports: Reports,
  signal: AbortSignal,
): Promise<api.Pushed> {
  const snapshot = await node.store.resolve(request.snapshot);
  const target = targetOf(request, snapshot);
  using _lease = node.store.lease(snapshot.digest, `push to ${formatImageReference(target)}`);
  // Blobs that are encoded, or fetched from elsewhere, until they are sent.
  using _blobs = node.store.lease(undefined, `push of ${request.snapshot}`);
  await using client = registryClient(request.registry, reports.notice);
  // Plain HTTP was allowed to that registry, and to no other that blobs may have to be fetched from.
  const elsewhere = { ...plainAccess(request.registry), plainHttp: false };
  await using others = registryClient(elsewhere, reports.notice);
  const repository = client.repository(target.registry, target.repository);
  const prepare = async () => {
    const [layers] = await together([
      publishedLayers(node, snapshot, reports, signal),
      request.allowSecrets ? undefined : requireCleanSnapshot(node.store, snapshot, request.snapshot, signal),
    ]);
    return layers;
  };
  const upload = async () => {
    const layers = await prepare();
    const clientFor = (registry: string) => (registry === target.registry ? client : others);
    const access = { clientFor, repository, registry: target.registry };
    return { layers, ...(await uploadLayers(node, layers, access, reports, signal)) };
  };
  const uploaded = await upload().catch(async (error: unknown) => {
    if (!(error instanceof BlobsLostError)) throw error;
    // Published once, since collected here and gone from there: encoded anew. Where the ancestors are still here
    // that gives the same blobs.
    await forgetPublication(node, snapshot);
    return await upload();
  });
  const { tag = "latest" } = target;
  const manifests = await publishManifests({
    ...{ repository, tag, snapshot, layers: uploaded.layers, signal },
    addVariant: request.addVariant,
  });
  await remember(node, snapshot, `${target.registry}/${target.repository}`);
  const { registry, repository: name } = target;
  return create(api.PushedSchema, {
    reference: formatImageReference({ registry, repository: name, tag }),
    digest: manifests.digest,
    snapshot: snapshot.digest,
    sentBytes: BigInt(uploaded.sentBytes + manifests.sentBytes),
    reusedBytes: BigInt(uploaded.reusedBytes),
  });
}

/** Where else the blobs are from now on. */
async function remember(node: Node, { digest }: StoredSnapshot, origin: string): Promise<void> {
  const known = await node.store.publications.get(digest);
  if (known === undefined || known.origins.includes(origin)) return;
  await node.store.publications.set(digest, { ...known, origins: [...known.origins, origin] });
}

/** @throws SporeletError `invalid_argument` when it names no registry, or a digest */
function targetOf({ snapshot, target }: api.PushRequest, { tags }: StoredSnapshot): ImageReference {
  const name = target || snapshot;
  if (!namesRegistry(name)) {
    const known = tags.find(namesRegistry);
    throw new SporeletError({
      code: "invalid_argument",
      operation: "push",
      subject: snapshot,
      reason: target === "" ? "its name does not say which registry" : `${target} does not name a registry`,
      hint: `sporectl push ${snapshot} ${known ?? "registry.example/team/name:tag"}`,
    });
  }
  const reference = parseImageReference(name);
  if (reference.digest === undefined) return reference;
  throw new SporeletError({
    code: "invalid_argument",
    operation: "push to",
    subject: name,
    reason: "a digest follows from what is pushed; give a tag",
  });
}
