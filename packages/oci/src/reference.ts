import { SporeletError } from "@sporelet/errors";
import { type Digest, isDigest } from "./digest.ts";

/** A name in a registry: `host[:port]/path[:tag][@digest]`. */
export interface ImageReference {
  /** Host and, where one was given, port: `registry.example:5000`. */
  registry: string;
  /** Path in the registry: `team/hello`. */
  repository: string;
  tag?: string;
  digest?: Digest;
}

// distribution-spec 1.1, "Pulling manifests": <name> and <reference>.
const repositoryPattern =
  /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const hostPattern =
  /^(?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)(?::([0-9]{1,5}))?$/;
// The spec lets clients limit host and name together, and names 255 as what many have.
const longestName = 255;

/**
 * Reads a name in a registry. The registry is always written out: its name has a dot or a port, or is `localhost`.
 *
 * @throws SporeletError `invalid_argument` with the rule that was broken
 */
export function parseImageReference(text: string): ImageReference {
  const fail = (reason: string): never => {
    throw new SporeletError({
      code: "invalid_argument",
      operation: "read the reference",
      subject: JSON.stringify(text),
      reason,
      hint: "write HOST/REPOSITORY:TAG, for example registry.example/team/hello:1",
    });
  };
  if (/^[a-z]+:\/\//.test(text)) fail("it is a URL; references have no scheme");
  const slash = text.indexOf("/");
  if (slash < 0) fail("it names no registry");
  const registry = text.slice(0, slash);
  if (!isRegistry(registry)) fail(`${JSON.stringify(registry)} is not a registry's host`);
  const [rest, digest, ...more] = text.slice(slash + 1).split("@");
  if (more.length > 0) fail("it has more than one @");
  if (digest !== undefined && !isDigest(digest))
    fail("its digest is not sha256: and 64 hex digits in lower case");
  const [repository, tag, ...others] = (rest ?? "").split(":");
  if (repository === undefined || repository === "") return fail("it names no repository");
  if (others.length > 0) fail("it has more than one tag");
  if (!repositoryPattern.test(repository)) {
    fail("repositories are lower-case letters and digits with . _ - between them and / between parts");
  }
  if (registry.length + 1 + repository.length > longestName)
    fail(`its name has more than ${longestName} characters`);
  if (tag !== undefined && !tagPattern.test(tag)) {
    fail("tags are at most 128 letters, digits, and . _ - after the first character");
  }
  return {
    registry,
    repository,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest: digest as Digest }),
  };
}

/** The opposite of {@link parseImageReference}. */
export function formatImageReference({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

/** Whether the first part of a name means a registry: it has a dot or a port, or is `localhost`. */
export function isRegistry(text: string): boolean {
  const match = hostPattern.exec(text);
  if (match === null || Number(match[1] ?? 443) > 65_535 || Number(match[1] ?? 443) === 0) return false;
  return /[.:]/.test(text) || text === "localhost";
}

export function isTag(text: string): boolean {
  return tagPattern.test(text);
}
