import { SporeletError } from "@sporelet/errors";

/** A snapshot's name as people write it: `name[:tag]`. */
export interface Reference {
  name: string;
  tag: string;
}

const defaultTag = "latest";
// Lower case letters and digits, joined by one of . _ - and put into folders by /; as in OCI repositories.
const namePattern = /^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/;
const tagPattern = /^[a-z0-9_][a-z0-9._-]*$/;
const longestPart = 128;

/**
 * Reads `name[:tag]`; without a tag it is `latest`. Names are parts of lower-case letters and digits, joined
 * by `.`, `_` or `-`, and separated by `/`; tags are lower-case letters, digits, `.`, `_` and `-`, and begin
 * with none of the last two but `_`. Each has at most 128 characters.
 *
 * @throws SporeletError `invalid_argument` with the rule that was broken.
 */
export function parseReference(text: string): Reference {
  const colon = text.lastIndexOf(":");
  const [name, tag] = colon < 0 ? [text, defaultTag] : [text.slice(0, colon), text.slice(colon + 1)];
  const problem = problemOf(name, tag);
  if (problem !== undefined) {
    throw new SporeletError({
      code: "invalid_argument",
      operation: "read the reference",
      subject: JSON.stringify(text),
      reason: problem,
      hint: "write NAME or NAME:TAG in lower case, for example shop/api:2",
    });
  }
  return { name, tag };
}

/** The whole reference, with its tag: `hello` becomes `hello:latest`. */
export function normalizeReference(text: string): string {
  const { name, tag } = parseReference(text);
  return `${name}:${tag}`;
}

function problemOf(name: string, tag: string): string | undefined {
  if (name === "") return "it has no name";
  if (name.length > longestPart) return `the name has more than ${longestPart} characters`;
  if (tag.length > longestPart) return `the tag has more than ${longestPart} characters`;
  if (name === "sha256") return "the name sha256 is kept for digests, which have 64 hex digits";
  if (!namePattern.test(name)) {
    return "names are lower-case letters and digits with . _ - between them and / between parts";
  }
  if (!tagPattern.test(tag))
    return "tags are lower-case letters, digits, and . _ - after the first character";
  return undefined;
}
