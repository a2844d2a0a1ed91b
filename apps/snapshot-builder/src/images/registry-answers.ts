/** What skopeo's messages mean. */
import type { SporeletErrorOptions } from "@sporelet/errors";

/** The first that fits counts: the port of a registry may be 404, and its answer to HTTPS plain HTTP. */
const answers: [RegExp, "not_found" | "unavailable" | "permission_denied", string, string][] = [
  [
    /\bserver gave HTTP response to HTTPS client\b/i,
    "unavailable",
    "its registry speaks plain HTTP",
    "name the image in sporelet.yaml with tls: false",
  ],
  [
    /\b(manifest|name) unknown\b|\bnot found\b|\b404\b/i,
    "not_found",
    "its registry has no such image",
    "check the name and the tag",
  ],
  [
    /\brequested access to the resource is denied\b|\bunauthorized\b|\bauthentication required\b/i,
    "permission_denied",
    "its registry has no such image or wants a login",
    "check the name, or run: skopeo login REGISTRY",
  ],
  [
    /\bconnection refused\b|\bno such host\b|\bi\/o timeout\b|\btimed? ?out\b|\bunreachable\b|\bEOF\b|\bx509\b|\blookup /,
    "unavailable",
    "its registry does not answer",
    "check the name and the network, or give the image a source in sporelet.yaml (packages, archive, layout)",
  ],
];

/**
 * @param log what skopeo wrote
 * @param fallback the reason when it wrote no message
 */
export function explainAnswer(
  log: string,
  fallback: string,
): Pick<SporeletErrorOptions, "code" | "reason" | "hint"> {
  // The last one is what it ended with; those before may be of attempts that it repeated.
  const answer = ([...log.matchAll(/msg="(.*)"/g)].at(-1)?.[1] ?? fallback).replaceAll('\\"', '"');
  const text = withoutNames(answer);
  const known = answers.find(([pattern]) => pattern.test(text));
  if (known === undefined) return { code: "internal", reason: answer };
  const [, code, reason, hint] = known;
  return { code, reason: `${reason} (${answer})`, hint };
}

/** Names of images and registries may contain any word, and ports any number. */
function withoutNames(message: string): string {
  return (
    message
      .replace(/\bmanifest \S+ in /g, "manifest in ")
      .replaceAll("Client.Timeout", "timeout")
      // URLs and repositories: words with a slash, but for "i/o".
      .replace(/(?<![^\s"])(?!i\/o(?![\w/]))[^\s"]*\/[^\s"]*/g, "")
      // Hosts with a dot or a port.
      .replace(/\b[\w-]+(\.[\w-]+)+(:\d+)?\b|\b[\w-]+:\d+\b|\[[0-9a-f:]+\](:\d+)?/gi, "")
      .replace(/\b(registry|lookup) [\w-]+/g, "$1 ")
  );
}
