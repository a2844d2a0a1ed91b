import { isDigest } from "../../digest.ts";
import { type Exchange, errorReply, type Reply } from "./reply.ts";
import type { RegistryState } from "./state.ts";

/** GET and HEAD of a blob, with one range. */
export function getBlob(state: RegistryState, repository: string, digest: string, exchange: Exchange): Reply {
  const bytes =
    isDigest(digest) && state.links.has(`${repository}@${digest}`) ? state.blobs.get(digest) : undefined;
  if (bytes === undefined) return errorReply(404, "BLOB_UNKNOWN", "blob unknown to registry");
  return content(bytes, exchange, { "docker-content-digest": digest });
}

/** Bytes, or the range of them that was asked for (RFC 9110, 14). */
export function content(
  bytes: Buffer,
  { incoming, fault }: Exchange,
  headers: Record<string, string> = {},
): Reply {
  const common = { "content-type": "application/octet-stream", "accept-ranges": "bytes", ...headers };
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(incoming.headers.range ?? "") ?? [];
  if (first === undefined || fault.ignoreRange === true) return { status: 200, headers: common, body: bytes };
  const shift = fault.shiftRangeBytes ?? 0;
  const from = Number(first) + shift;
  const to = Math.min(
    bytes.length - 1,
    last === "" || last === undefined ? bytes.length - 1 : Number(last) + shift,
  );
  if (from >= bytes.length || to < from) {
    return { status: 416, headers: { "content-range": `bytes */${bytes.length}` } };
  }
  const range = { ...common, "content-range": `bytes ${from}-${to}/${bytes.length}` };
  return { status: 206, headers: range, body: bytes.subarray(from, to + 1) };
}
