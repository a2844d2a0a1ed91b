import { isDigest, sha256 } from "../../digest.ts";
import { type Exchange, errorReply, type Reply } from "./reply.ts";
import type { RegistryState } from "./state.ts";

export function manifestKey(repository: string, tagOrDigest: string): string {
  return `${repository}${isDigest(tagOrDigest) ? "@" : ":"}${tagOrDigest}`;
}

export async function handleManifest(
  state: RegistryState,
  repository: string,
  tagOrDigest: string,
  { incoming, read }: Exchange,
): Promise<Reply> {
  if (incoming.method === "PUT") {
    const bytes = await read();
    const mediaType = incoming.headers["content-type"] ?? "";
    const missing = missingParts(state, repository, bytes);
    if (missing !== undefined) return errorReply(400, "MANIFEST_BLOB_UNKNOWN", missing);
    const digest = sha256(bytes);
    state.manifests.set(manifestKey(repository, digest), { mediaType, bytes });
    state.manifests.set(manifestKey(repository, tagOrDigest), { mediaType, bytes });
    const location = `/v2/${repository}/manifests/${digest}`;
    return { status: 201, headers: { location, "docker-content-digest": digest } };
  }
  const manifest = state.manifests.get(manifestKey(repository, tagOrDigest));
  if (manifest === undefined) return errorReply(404, "MANIFEST_UNKNOWN", "manifest unknown");
  const { mediaType, bytes } = manifest;
  return {
    status: 200,
    headers: { "content-type": mediaType, "docker-content-digest": sha256(bytes) },
    body: bytes,
  };
}

interface Named {
  digest: string;
}

/** Registries refuse manifests that name what they do not have. */
function missingParts(state: RegistryState, repository: string, bytes: Buffer): string | undefined {
  try {
    const {
      config,
      layers = [],
      manifests = [],
    } = JSON.parse(bytes.toString()) as {
      config?: Named;
      layers?: Named[];
      manifests?: Named[];
    };
    const blobs = [...(config === undefined ? [] : [config]), ...layers];
    const blob = blobs.find(({ digest }) => !state.links.has(`${repository}@${digest}`));
    const manifest = manifests.find(({ digest }) => !state.manifests.has(manifestKey(repository, digest)));
    return (blob ?? manifest)?.digest;
  } catch {
    return "it is not JSON";
  }
}
