import { randomUUID } from "node:crypto";
import { isDigest, sha256 } from "../../digest.ts";
import { type Exchange, errorReply, type Reply } from "./reply.ts";
import { type RegistryState, storeBlob, type Upload } from "./state.ts";

export interface UploadOptions {
  /** `http://host:port`, or nothing for relative Locations. */
  locationBase: string;
  minChunkBytes: number | undefined;
  mounts: boolean;
  chunks: ChunkQuirk | undefined;
  /** Whether an upload has the same Location from its beginning to its end. */
  stableLocations: boolean;
}

/** What registries do with chunks in place of what the specification says. */
export type ChunkQuirk =
  /** They take none. */
  | "none"
  /** They take none above 4 MB, and say 416. */
  | "small"
  /** They take them, but their Range stays at the end of the first. */
  | "stale range"
  /** They lose one byte of each. */
  | "lossy";

const smallChunkBytes = 4_000_000;

/** POST: begins an upload, or mounts. */
export function beginUpload(
  state: RegistryState,
  repository: string,
  { url }: Exchange,
  options: UploadOptions,
): Reply {
  const [mount, from] = [url.searchParams.get("mount"), url.searchParams.get("from")];
  if (options.mounts && isDigest(mount) && state.links.has(`${from}@${mount}`)) {
    state.links.add(`${repository}@${mount}`);
    const location = `${options.locationBase}/v2/${repository}/blobs/${mount}`;
    return { status: 201, headers: { location, "docker-content-digest": mount } };
  }
  const id = randomUUID();
  const upload = { repository, parts: [], sizeBytes: 0, state: 0 };
  state.uploads.set(id, upload);
  return answer(202, id, upload, options);
}

/** PATCH, PUT, GET and DELETE of an upload. */
export async function continueUpload(
  state: RegistryState,
  repository: string,
  id: string,
  exchange: Exchange,
  options: UploadOptions,
): Promise<Reply> {
  const { incoming, url, read, fault } = exchange;
  if (fault.expireUploads === true) state.uploads.clear();
  const upload = state.uploads.get(id);
  if (upload === undefined || upload.repository !== repository) {
    return errorReply(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
  }
  if (!options.stableLocations && url.searchParams.get("_state") !== String(upload.state)) {
    return errorReply(400, "BLOB_UPLOAD_INVALID", "this Location is not the newest");
  }
  const take = (part: Buffer) => {
    upload.parts.push(part);
    upload.sizeBytes += part.length;
  };
  switch (incoming.method) {
    case "GET":
      return answer(204, id, upload, options);
    case "DELETE":
      state.uploads.delete(id);
      return { status: 204 };
    case "PATCH": {
      const [, first, last] = /^(\d+)-(\d+)$/.exec(incoming.headers["content-range"] ?? "") ?? [];
      if (first !== undefined && Number(first) !== upload.sizeBytes) return answer(416, id, upload, options);
      const length = Number(incoming.headers["content-length"]);
      if (last !== undefined && Number(last) - Number(first) + 1 !== length) {
        return errorReply(400, "SIZE_INVALID", "Content-Range and Content-Length differ");
      }
      if (options.chunks === "none") return errorReply(405, "UNSUPPORTED", "the operation is unsupported");
      if (options.chunks === "small" && length > smallChunkBytes)
        return errorReply(416, "SIZE_INVALID", "too large");
      await read(options.chunks === "lossy" ? (part) => take(part.subarray(1)) : take);
      upload.state += 1;
      upload.firstChunkBytes ??= upload.sizeBytes;
      return answer(202, id, upload, options);
    }
    case "PUT":
      await read(take);
      return finish(state, id, upload, url.searchParams.get("digest"), options);
    default:
      return errorReply(405, "UNSUPPORTED", "the operation is unsupported");
  }
}

function finish(
  state: RegistryState,
  id: string,
  upload: Upload,
  digest: string | null,
  options: UploadOptions,
): Reply {
  const bytes = Buffer.concat(upload.parts);
  state.uploads.delete(id);
  if (sha256(bytes) !== digest) {
    return errorReply(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
  }
  storeBlob(state, upload.repository, bytes);
  const location = `${options.locationBase}/v2/${upload.repository}/blobs/${digest}`;
  return { status: 201, headers: { location, "docker-content-digest": digest } };
}

function receivedBytes(upload: Upload, { chunks }: UploadOptions): number {
  return (chunks === "stale range" ? upload.firstChunkBytes : undefined) ?? upload.sizeBytes;
}

function answer(status: number, id: string, upload: Upload, options: UploadOptions): Reply {
  const { locationBase, minChunkBytes } = options;
  return {
    status,
    headers: {
      location: `${locationBase}/v2/${upload.repository}/blobs/uploads/${id}?_state=${upload.state}`,
      range: `0-${Math.max(0, receivedBytes(upload, options) - 1)}`,
      "docker-upload-uuid": id,
      ...(minChunkBytes === undefined ? {} : { "oci-chunk-min-length": String(minChunkBytes) }),
    },
  };
}
