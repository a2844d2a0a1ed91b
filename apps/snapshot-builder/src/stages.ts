/**
 * The cache of build stages. A stage's key is a digest of everything that its result depends on, and of
 * nothing else: that is what lets a changed Compose file leave the root file system alone.
 */
import { createHash } from "node:crypto";

/** The part of the store (`store.cache`) that building needs. */
export interface Cache {
  /**
   * The directory of an entry that exists, or that `create` fills; it appears whole or not at all, and
   * callers who ask for one key at the same time share one creation.
   */
  getOrCreate(
    stage: string,
    key: string,
    create: (directory: string) => Promise<void>,
    options?: { signal?: AbortSignal | undefined; refresh?: boolean },
  ): Promise<{ directory: string; cached: boolean }>;
}

type KeyPart =
  | string
  | number
  | boolean
  | undefined
  | null
  | readonly KeyPart[]
  | { readonly [name: string]: KeyPart };

/** A key for parts of any kind: equal for equal parts, whatever the order of object members. */
export function cacheKeyOf(parts: KeyPart): string {
  return createHash("sha256").update(canonical(parts)).digest("hex");
}

/** JSON with sorted members. `undefined` members count as absent. */
function canonical(part: KeyPart): string {
  if (Array.isArray(part)) return `[${part.map(canonical).join(",")}]`;
  if (typeof part === "object" && part !== null) {
    const members = Object.entries(part)
      .filter(([, value]) => value !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `${JSON.stringify(name)}:${canonical(value)}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(part ?? null);
}
