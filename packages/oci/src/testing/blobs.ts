import type { Descriptor } from "../descriptor.ts";
import { type Digest, sha256 } from "../digest.ts";

/** Describes bytes as a blob of no special kind. */
export function blobOf(bytes: Buffer): Descriptor {
  return { mediaType: "application/octet-stream", digest: sha256(bytes), size: bytes.length };
}

/** Bytes as something to push, in pieces as a file would give them. */
export function sourceOf(bytes: Buffer): {
  digest: Digest;
  size: number;
  read(offset: number): AsyncGenerator<Buffer>;
} {
  const pieceBytes = 16 * 1024;
  return {
    digest: sha256(bytes),
    size: bytes.length,
    async *read(offset) {
      for (let at = offset; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
    },
  };
}

/** All that a stream gives. */
export async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}
