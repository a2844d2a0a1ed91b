/**
 * Which archive the guest's packages come from: the one that the host itself uses for that release, mirrors
 * and keys included.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";

/** Debian 12: containerd 1.6, dockerd 20.10, docker-compose 1.29. */
export const suite = "bookworm";

const archiveKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/**
 * @returns lines of a sources.list for `suite` and its updates
 * @throws SporeletError `unsupported` when this host's apt has no source of that release
 */
export async function guestSources(aptDirectory = "/etc/apt"): Promise<string[]> {
  const parts = join(aptDirectory, "sources.list.d");
  const names = await readdir(parts).catch(() => []);
  const paths = [join(aptDirectory, "sources.list"), ...names.sort().map((name) => join(parts, name))];
  const lines: string[] = [];
  for (const path of paths) {
    const text = await readFile(path, "utf8").catch(() => "");
    if (path.endsWith(".list")) lines.push(...fromList(text));
    else if (path.endsWith(".sources")) lines.push(...fromDeb822(text));
  }
  // Without the release itself its updates are of no use.
  if (lines.some((line) => line.includes(` ${suite} `))) return lines;
  throw new SporeletError({
    code: "unsupported",
    operation: "find packages for the guest in",
    subject: aptDirectory,
    reason: `this host's apt has no source for Debian's ${suite}, which guests are made of`,
    hint: `add one to ${parts}: the host's own mirror with "Suites: ${suite}", or a "deb" line for it`,
  });
}

const wanted = [suite, `${suite}-updates`, `${suite}-security`];

/** One-line style: `deb [options] URI SUITE COMPONENT…` (sources.list(5)). Options but the key are dropped. */
export function fromList(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    const [, options = "", uri = "", name = "", components = ""] =
      /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*?)\s*(?:#.*)?$/.exec(line) ?? [];
    const key = /signed-by=(\S+)/.exec(options)?.[1] ?? archiveKeyring;
    return wanted.includes(name) ? [sourceLine(key, uri, name, components.split(/\s+/))] : [];
  });
}

/** Deb822 style: paragraphs of `Field: value`, of which one may name several URIs and suites. */
export function fromDeb822(text: string): string[] {
  return text.split(/\n\s*\n/).flatMap((paragraph) => {
    const field = (name: string) =>
      new RegExp(`^${name}:[ \\t]*(.*(?:\\n[ \\t]+\\S.*)*)`, "im")
        .exec(paragraph)?.[1]
        ?.split(/\s+/)
        .filter(Boolean) ?? [];
    if (!field("Types").includes("deb") || field("Enabled")[0]?.toLowerCase() === "no") return [];
    const [signedBy = archiveKeyring] = field("Signed-By");
    return field("URIs").flatMap((uri) =>
      field("Suites")
        .filter((name) => wanted.includes(name))
        .map((name) =>
          sourceLine(signedBy.startsWith("/") ? signedBy : archiveKeyring, uri, name, field("Components")),
        ),
    );
  });
}

function sourceLine(key: string, uri: string, name: string, components: string[]): string {
  return `deb [signed-by=${key}] ${uri} ${name} ${components.join(" ")}`;
}
