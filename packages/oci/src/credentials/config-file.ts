import { mkdir, readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { writeFileAtomic } from "@sporelet/host";
import { isObject, type JsonObject } from "../json.ts";
import type { Credential } from "./credential.ts";

/** Docker's config.json, as far as it is about registries. Everything else in it is kept. */
export interface DockerConfig {
  readonly path: string;
  /** The program's suffix for a registry: `desktop` for docker-credential-desktop. */
  helperFor(registry: string): string | undefined;
  /** What the file itself holds. */
  credentialFor(registry: string): Credential | undefined;
  /** The file with another entry for a registry, or without any. */
  with(registry: string, entry: JsonObject | undefined): JsonObject;
  has(registry: string): boolean;
}

/**
 * Reads `config.json` in a directory such as ~/.docker. One that is not there is empty.
 *
 * @throws SporeletError `corrupt`, `permission_denied`
 */
export async function readDockerConfig(directory: string): Promise<DockerConfig> {
  const path = join(directory, "config.json");
  const content = await contentOf(path);
  const auths = isObject(content.auths) ? content.auths : {};
  const keysFor = (registry: string) => Object.keys(auths).filter((key) => isKeyOf(key, registry));
  return {
    path,
    helperFor(registry) {
      const helpers = isObject(content.credHelpers) ? content.credHelpers : {};
      const own = Object.entries(helpers).find(([key]) => isKeyOf(key, registry))?.[1];
      const helper = own ?? content.credsStore;
      return typeof helper === "string" && helper !== "" ? helper : undefined;
    },
    credentialFor(registry) {
      for (const key of keysFor(registry)) {
        const credential = credentialOf(auths[key], `${path}, auths of ${key}`);
        if (credential !== undefined) return credential;
      }
      return undefined;
    },
    has: (registry) => keysFor(registry).length > 0,
    with(registry, entry) {
      const others = Object.fromEntries(Object.entries(auths).filter(([key]) => !isKeyOf(key, registry)));
      return {
        ...content,
        auths: { ...others, ...(entry === undefined ? {} : { [serverOf(registry)]: entry }) },
      };
    },
  };
}

/** Writes the file for its owner alone. One that is a link stays one. */
export async function writeDockerConfig(path: string, content: JsonObject): Promise<void> {
  const context = { operation: "write the credentials", subject: path };
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const target = await realpath(path).catch(() => path);
    // Docker indents by tabs.
    await writeFileAtomic(target, `${JSON.stringify(content, undefined, "\t")}\n`, 0o600);
  } catch (error) {
    throw SporeletError.from(error, context);
  }
}

/** What config.json and credential helpers call a registry. Docker Hub has kept the name of its first version. */
export function serverOf(registry: string): string {
  return hubNames.has(registry) ? "https://index.docker.io/v1/" : registry;
}

const hubNames: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

/** Old entries are URLs, with or without the version of the API. */
function isKeyOf(key: string, registry: string): boolean {
  const host = key.replace(/^https?:\/\//, "").replace(/\/(?:v[12]\/?)?$/, "");
  return host === registry || (hubNames.has(host) && hubNames.has(registry));
}

async function contentOf(path: string): Promise<JsonObject> {
  const context = { operation: "read the credentials", subject: path };
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw SporeletError.from(error, context);
  }
  try {
    const content: unknown = JSON.parse(text);
    if (isObject(content)) return content;
  } catch {
    // Not the parser's own words: they may quote a password.
  }
  throw new SporeletError({
    ...context,
    code: "corrupt",
    reason: "it is not a JSON object",
    hint: "repair or remove it",
  });
}

function credentialOf(entry: unknown, where: string): Credential | undefined {
  if (!isObject(entry)) return undefined;
  const { auth, username, password, identitytoken, registrytoken } = entry;
  if (isText(identitytoken)) return { identityToken: identitytoken };
  if (isText(registrytoken)) return { registryToken: registrytoken };
  if (isText(username) && isText(password)) return { username, password };
  if (!isText(auth)) return undefined;
  const [, name, secret] = /^([^:]*):(.*)$/s.exec(Buffer.from(auth, "base64").toString()) ?? [];
  if (name !== undefined && secret !== undefined) return { username: name, password: secret };
  throw new SporeletError({
    code: "corrupt",
    operation: "read the credentials",
    subject: where,
    reason: "auth is not NAME:PASSWORD in base64",
    hint: "log in again",
  });
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}
