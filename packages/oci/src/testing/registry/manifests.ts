import { isDigest, sha256 } from "../../digest.ts";
import { type Exchange, errorReply, type Reply } from "./reply.ts";
import type { RegistryState } from "./state.ts";

function manifestKey(repository: string, tagOrDigest: string): string {
  return `${repository}${isDigest(tagOrDigest) ? "@" : ":"}${tagOrDigest}`;
}

export async function handleManifest(
  state: RegistryState,
  repository: string,
  tagOrDigest: string,
  { incoming, read }: Exchange,
  notesSubjects: boolean,
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
    const subject = parsed(bytes)?.subject?.digest;
    const noted = subject === undefined || !notesSubjects ? {} : { "oci-subject": subject };
    return { status: 201, headers: { location, "docker-content-digest": digest, ...noted } };
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

/** Manifests whose subject is this one (distribution-spec 1.1, "Listing Referrers"). */
export function referrers(state: RegistryState, repository: string, digest: string): Reply {
  const manifests = [...state.manifests].flatMap(([key, { mediaType, bytes }]) => {
    const { subject, artifactType, annotations } = parsed(bytes) ?? {};
    if (!key.startsWith(`${repository}@`) || subject?.digest !== digest) return [];
    return [{ mediaType, digest: sha256(bytes), size: bytes.length, artifactType, annotations }];
  });
  const index = { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests };
  return {
    status: 200,
    headers: { "content-type": index.mediaType },
    body: Buffer.from(JSON.stringify(index)),
  };
}

interface Named {
  digest: string;
}

interface Manifest {
  config?: Named;
  layers?: Named[];
  manifests?: Named[];
  subject?: Named;
  artifactType?: string;
  annotations?: Record<string, string>;
}

function parsed(bytes: Buffer): Manifest | undefined {
  try {
    return JSON.parse(bytes.toString()) as Manifest;
  } catch {
    return undefined;
  }
}

/** Registries refuse manifests that name what they do not have. */
function missingParts(state: RegistryState, repository: string, bytes: Buffer): string | undefined {
  const manifest = parsed(bytes);
  if (manifest === undefined) return "it is not JSON";
  const { config, layers = [], manifests = [] } = manifest;
  const blobs = [...(config === undefined ? [] : [config]), ...layers];
  const blob = blobs.find(({ digest }) => !state.links.has(`${repository}@${digest}`));
  const child = manifests.find(({ digest }) => !state.manifests.has(manifestKey(repository, digest)));
  return (blob ?? child)?.digest;
}
