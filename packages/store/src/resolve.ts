import { nearest, SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";
import { normalizeReference, parseReference } from "./reference.ts";
import type { TagTable } from "./tags.ts";

const digestPattern = /^sha256:[0-9a-f]{64}$/;
const shortDigestPattern = /^[0-9a-f]{12,64}$/;

/** What a reference names: a tag, or a digest however it was written. */
export type Target = { digest: Digest; tag?: string };

/**
 * Finds the snapshot that a reference names: `name[:tag]`, `sha256:` and 64 hex digits, or the first 12 or
 * more hex digits of a digest. A name that looks like a digest goes first.
 *
 * @throws SporeletError `not_found` with the nearest names; `invalid_argument` when it is no reference, or
 *   several snapshots begin with these digits.
 */
export function resolveReference(reference: string, tags: TagTable, digests: readonly Digest[]): Target {
  if (digestPattern.test(reference)) {
    const digest = reference as Digest;
    if (digests.includes(digest)) return { digest };
    throw notFound(reference, []);
  }
  const tag = normalizeReference(reference);
  const tagged = tags.get(tag);
  if (tagged !== undefined) return { digest: tagged, tag };
  if (shortDigestPattern.test(reference)) {
    const matches = digests.filter((digest) => digest.startsWith(`sha256:${reference}`));
    if (matches.length > 1) throw ambiguous(reference, matches);
    if (matches[0] !== undefined) return { digest: matches[0] };
  }
  throw notFound(reference, tags.keys());
}

/** Names as a person would write them: without the tag `latest`. */
function shortName(tag: string): string {
  return tag.endsWith(":latest") ? tag.slice(0, -":latest".length) : tag;
}

function notFound(reference: string, tags: Iterable<string>): SporeletError {
  const names = [...tags].map(shortName);
  const { name, registry } = digestPattern.test(reference) ? { name: "" } : parseReference(reference);
  // A right name with a wrong tag is nearer than any distance tells.
  const sameName = names.filter((candidate) => parseReference(candidate).name === name);
  const near = sameName.length > 0 ? sameName.slice(0, 3) : nearest(shortName(reference), names);
  return new SporeletError({
    code: "not_found",
    operation: "find the snapshot",
    subject: reference,
    reason: "there is none with this name",
    hint:
      near.length > 0
        ? `did you mean ${near.join(" or ")}?`
        : registry !== undefined
          ? `\`sporectl pull ${reference}\` fetches it`
          : "`sporectl snapshot ls` lists what there is; `sporectl build` makes one",
  });
}

function ambiguous(reference: string, matches: Digest[]): SporeletError {
  return new SporeletError({
    code: "invalid_argument",
    operation: "find the snapshot",
    subject: reference,
    reason: `${matches.length} snapshots begin with these digits`,
    hint: `give more of them: ${matches.join(", ")}`,
  });
}
