import { type Digest, isDigest, sha256 } from "./digest.ts";
import { corrupt, isObject, type JsonObject, type ReadContext } from "./json.ts";

/** What an OCI manifest says of a blob or of another manifest (image-spec 1.1, descriptor.md). */
export interface Descriptor {
  mediaType: string;
  digest: Digest;
  /** In bytes. */
  size: number;
  annotations?: Readonly<Record<string, string>>;
  artifactType?: string;
  platform?: Platform;
  /** The content itself, in base64, of very small blobs. */
  data?: string;
}

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

/** Bytes with the descriptor that names them: what is to be sent to a registry. */
export interface Content {
  descriptor: Descriptor;
  bytes: Buffer;
}

/** RFC 6838: a type and a subtype, each of at most 127 characters. */
const mediaTypePattern = /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/;
const largestAnnotationsBytes = 64 * 1024;

/** Describes bytes. */
export function describe(bytes: Buffer, mediaType: string, rest: Partial<Descriptor> = {}): Content {
  return { descriptor: { mediaType, digest: sha256(bytes), size: bytes.length, ...rest }, bytes };
}

/**
 * Reads a descriptor that came from elsewhere.
 *
 * @param where how to call it in errors: `layers[2]`
 * @param largestBytes a larger size is refused here, before anything is allocated for it
 * @throws SporeletError `corrupt`
 */
export function parseDescriptor(
  value: unknown,
  where: string,
  largestBytes: number,
  context: ReadContext,
): Descriptor {
  if (!isObject(value)) throw corrupt(context, `${where} is not a descriptor`);
  const { mediaType, digest, size, artifactType, data } = value;
  if (typeof mediaType !== "string" || !mediaTypePattern.test(mediaType)) {
    throw corrupt(context, `${where} has no valid media type`);
  }
  if (!isDigest(digest)) throw corrupt(context, `${where} has no SHA-256 digest`);
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
    throw corrupt(context, `${where} has no valid size`);
  }
  if (size > largestBytes) {
    throw corrupt(context, `${where} claims ${size} bytes; at most ${largestBytes} are allowed there`);
  }
  if (artifactType !== undefined && typeof artifactType !== "string") {
    throw corrupt(context, `${where} has an artifact type that is not text`);
  }
  if (data !== undefined && typeof data !== "string")
    throw corrupt(context, `${where} has data that is not text`);
  const annotations = parseAnnotations(value, where, context);
  const platform = parsePlatform(value.platform, where, context);
  return {
    mediaType,
    digest,
    size,
    ...(annotations === undefined ? {} : { annotations }),
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(platform === undefined ? {} : { platform }),
    ...(data === undefined ? {} : { data }),
  };
}

/** The annotations of a manifest or descriptor, which are texts by name. */
export function parseAnnotations(
  holder: JsonObject,
  where: string,
  context: ReadContext,
): Record<string, string> | undefined {
  const { annotations } = holder;
  if (annotations === undefined || annotations === null) return undefined;
  if (!isObject(annotations)) throw corrupt(context, `the annotations of ${where} are not an object`);
  let bytes = 0;
  for (const [name, value] of Object.entries(annotations)) {
    if (typeof value !== "string") throw corrupt(context, `annotation ${name} of ${where} is not text`);
    bytes += name.length + value.length;
  }
  if (bytes > largestAnnotationsBytes) {
    throw corrupt(context, `${where} has annotations of more than ${largestAnnotationsBytes} bytes`);
  }
  return annotations as Record<string, string>;
}

function parsePlatform(value: unknown, where: string, context: ReadContext): Platform | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value) || typeof value.os !== "string" || typeof value.architecture !== "string") {
    throw corrupt(context, `${where} has a platform without os and architecture`);
  }
  const { os, architecture, variant } = value;
  return { os, architecture, ...(typeof variant === "string" ? { variant } : {}) };
}
