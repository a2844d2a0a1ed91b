import { SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";

const digestPattern = /^sha256:[0-9a-f]{64}$/;

export function isDigest(text: unknown): text is Digest {
  return typeof text === "string" && digestPattern.test(text);
}

/**
 * The file name of a thing that is named by its digest: the 64 hex digits.
 *
 * @throws SporeletError `invalid_argument` for anything else, so that no digest leads out of its directory.
 */
export function hexOf(digest: Digest, operation: string): string {
  if (isDigest(digest)) return digest.slice("sha256:".length);
  throw new SporeletError({
    code: "invalid_argument",
    operation,
    subject: JSON.stringify(digest),
    reason: "a digest is sha256: and 64 hex digits",
  });
}
