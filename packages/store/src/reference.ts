import { SporeletError } from "@sporelet/errors";

/** A snapshot's name as people write it: `name[:tag]`, or `registry/path[:tag]`. */
export interface Reference {
  /** All before the tag, the registry included. */
  name: string;
  tag: string;
  /** `host[:port]`, when the name says where it is published. */
  registry?: string;
}

const defaultTag = "latest";
// Lower case letters and digits, joined by one of . _ - and put into folders by /; as in OCI repositories.
const pathPattern = /^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/;
const tagPattern = /^[a-z0-9_][a-z0-9._-]*$/;
/** As the registry takes it: OCI distribution specification, "Pulling manifests". */
const registryTagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]*$/;
/** A host name or address and a port. */
const hostPattern = /^(?:[a-z0-9]+(?:[.-]+[a-z0-9]+)*|\[[0-9a-f:]+\])(?::[0-9]{1,5})?$/;
const longestPart = 128;
/** The longest name that registries agree on: OCI distribution specification, host and path together. */
const longestName = 255;

/**
 * Reads `name[:tag]`; without a tag it is `latest`. Names are parts of lower-case letters and digits, joined
 * by `.`, `_` or `-`, and separated by `/`; tags are lower-case letters, digits, `.`, `_` and `-`, and begin
 * with none of the last two but `_`. Each has at most 128 characters.
 *
 * A first part with `.` or `:`, or that is `localhost`, with a path after it, is a registry, as everywhere
 * with containers. Then the tag may have upper-case letters too, and the name has at most 255 characters.
 *
 * @throws SporeletError `invalid_argument` with the rule that was broken.
 */
export function parseReference(text: string): Reference {
  const slash = text.indexOf("/");
  const first = slash < 0 ? "" : text.slice(0, slash).toLowerCase();
  const registry = /[.:]/.test(first) || first === "localhost" ? first : undefined;
  const rest = registry === undefined ? text : text.slice(slash + 1);
  const colon = rest.lastIndexOf(":");
  const [path, tag] = colon < 0 ? [rest, defaultTag] : [rest.slice(0, colon), rest.slice(colon + 1)];
  const problem = registry === undefined ? problemOf(path, tag) : problemAt(registry, path, tag);
  if (problem !== undefined) {
    throw new SporeletError({
      code: "invalid_argument",
      operation: "read the reference",
      subject: JSON.stringify(text),
      reason: problem,
      hint:
        registry === undefined
          ? "write NAME or NAME:TAG in lower case, for example shop/api:2"
          : "write REGISTRY/NAME:TAG, for example registry.example/shop/api:2",
    });
  }
  return registry === undefined ? { name: path, tag } : { name: `${registry}/${path}`, tag, registry };
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
  if (!pathPattern.test(name)) {
    return "names are lower-case letters and digits with . _ - between them and / between parts";
  }
  if (!tagPattern.test(tag))
    return "tags are lower-case letters, digits, and . _ - after the first character";
  return undefined;
}

function problemAt(registry: string, path: string, tag: string): string | undefined {
  if (!hostPattern.test(registry) || Number(/:(\d+)$/.exec(registry)?.[1] ?? 0) > 65_535) {
    return `${JSON.stringify(registry)} is no host with an optional port`;
  }
  if (path === "") return "it has no name after the registry";
  if (registry.length + 1 + path.length > longestName)
    return `the name has more than ${longestName} characters`;
  if (tag.length > longestPart) return `the tag has more than ${longestPart} characters`;
  if (!pathPattern.test(path)) {
    return "names are lower-case letters and digits with . _ - between them and / between parts";
  }
  if (!registryTagPattern.test(tag)) return "tags are letters, digits, and . _ - after the first character";
  return undefined;
}
