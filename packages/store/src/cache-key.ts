import { createHash } from "node:crypto";

/** What a key is made from: data with a JSON form, in which the order of an object's keys says nothing. */
export type KeyPart =
  | string
  | number
  | boolean
  | null
  | Uint8Array
  | readonly KeyPart[]
  | { readonly [key: string]: KeyPart | undefined };

/**
 * A key for the build cache: 64 hex digits that are equal exactly when all parts are. Parts are kept apart,
 * so ("ab", "c") and ("a", "bc") differ, as do 1 and "1". Undefined properties count as absent.
 */
export function cacheKey(...parts: KeyPart[]): string {
  const hash = createHash("sha256");
  for (const part of parts) addPart(part);
  return hash.digest("hex");

  // Each value is its kind, its length and its content: no two sequences of values give the same bytes.
  function addPart(part: KeyPart): void {
    if (part instanceof Uint8Array) {
      hash.update(`bytes ${part.length} `).update(part);
    } else if (typeof part === "string") {
      hash.update(`string ${Buffer.byteLength(part)} ${part}`);
    } else if (isList(part)) {
      hash.update(`list ${part.length} `);
      for (const item of part) addPart(item);
    } else if (typeof part === "object" && part !== null) {
      const entries = Object.entries(part).filter(([, value]) => value !== undefined);
      entries.sort(([a], [b]) => (a < b ? -1 : 1));
      hash.update(`object ${entries.length} `);
      for (const [key, value] of entries) {
        addPart(key);
        addPart(value ?? null);
      }
    } else {
      hash.update(`${JSON.stringify(part)} `);
    }
  }
}

function isList(part: KeyPart): part is readonly KeyPart[] {
  return Array.isArray(part);
}
