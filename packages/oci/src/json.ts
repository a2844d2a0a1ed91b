import { SporeletError } from "@sporelet/errors";

/** What is being read, for errors. */
export interface ReadContext {
  /** An infinitive without "to": `read the image index`. */
  operation: string;
  subject?: string | undefined;
}

export type JsonObject = Record<string, unknown>;

/**
 * JSON with the members of every object in the order of their names and no white space, so that equal content
 * has equal bytes and an equal digest. Members that are undefined are left out.
 */
export function canonicalJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(sorted(value)));
}

/**
 * Parses bytes that came from a registry and must be one JSON object.
 *
 * @throws SporeletError `corrupt`
 */
export function parseJsonObject(bytes: Uint8Array, context: ReadContext): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new SporeletError({ ...context, code: "corrupt", reason: "it is not JSON", cause });
  }
  if (!isObject(value)) throw corrupt(context, "it is not a JSON object");
  return value;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function corrupt(context: ReadContext, reason: string): SporeletError {
  return new SporeletError({ ...context, code: "corrupt", reason });
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  // Names are compared by UTF-16 units, as RFC 8785 does, and never by a locale.
  const names = Object.keys(value).sort();
  return Object.fromEntries(names.map((name) => [name, sorted(value[name])]));
}
