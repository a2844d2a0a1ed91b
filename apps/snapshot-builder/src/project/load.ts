/** Finds and reads a project: its Compose file, sporelet.yaml, `.env`, and the files that belong to it. */
import { createHash } from "node:crypto";
import { lstat, readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { type ComposeFile, parseComposeFile } from "./compose-file.ts";
import {
  defaultConfig,
  type ImageConfig,
  type ImageSource,
  type ProjectConfig,
  parseConfig,
} from "./config.ts";
import { parseEnvFile } from "./interpolate.ts";

export interface Project {
  /** Compose's project name: lower-case letters, digits, dash, underscore. */
  name: string;
  directory: string;
  config: ProjectConfig;
  compose: ComposeFile & { text: string; path: string };
  /** Every image that a service needs and every one that sporelet.yaml names, with its source. */
  images: ({ name: string } & ImageSource)[];
  /** What is copied into the guest, relative to the project; directories before what is in them. */
  files: ProjectFile[];
}

type ProjectFile = { path: string; mode: number } & (
  | { type: "file"; digest: string; sizeBytes: number }
  | { type: "directory" }
  | { type: "symlink"; target: string }
);

const configNames = ["sporelet.yaml", "sporelet.yml"];
const composeNames = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/** What the guest's own files are limited to; more belongs into an image or a volume. */
const maxFilesBytes = 512 * 1024 ** 2;

/**
 * @param path directory of a project, or its Compose file or sporelet.yaml
 * @throws SporeletError `not_found` when there is no project, `invalid_argument` when it is wrong
 */
export async function loadProject(path: string): Promise<Project> {
  const { directory, composePath, configPath } = await findFiles(resolve(path));
  const config =
    configPath === undefined ? defaultConfig : parseConfig(await readFile(configPath, "utf8"), configPath);
  const composeFile = composePath ?? (await findCompose(directory, config));
  const text = await readFile(composeFile, "utf8").catch((error) => {
    throw SporeletError.from(error, { operation: "read the Compose file", subject: composeFile });
  });
  const env = await readFile(join(directory, ".env"), "utf8").catch(() => undefined);
  const compose = parseComposeFile(text, composeFile, {
    variables: parseEnvFile(env ?? ""),
    builtImages: new Set(config.images.map((image) => image.name)),
  });
  const needed = [
    ...compose.files,
    ...[...config.hooks.beforeFreeze, ...config.hooks.afterResume].map((hook) => ({
      path: hook,
      mustExist: true,
    })),
    ...(env === undefined ? [] : [{ path: ".env", mustExist: true }]),
  ];
  return {
    name: projectName(compose.name ?? basename(directory)),
    directory,
    config,
    compose: { ...compose, text, path: composeFile },
    images: imageSources(config.images, compose.images),
    files: await collectFiles(directory, needed),
  };
}

async function findFiles(path: string) {
  const info = await stat(path).catch(() => undefined);
  if (info === undefined) {
    throw new SporeletError({
      code: "not_found",
      operation: "build",
      subject: path,
      reason: "there is no such file or directory",
    });
  }
  const directory = info.isDirectory() ? path : dirname(path);
  const configNamed = !info.isDirectory() && configNames.includes(basename(path));
  return {
    directory,
    composePath: info.isDirectory() || configNamed ? undefined : path,
    configPath: configNamed ? path : await firstExisting(directory, configNames),
  };
}

async function findCompose(directory: string, config: ProjectConfig): Promise<string> {
  if (config.compose !== undefined) return join(directory, config.compose);
  const found = await firstExisting(directory, composeNames);
  if (found !== undefined) return found;
  throw new SporeletError({
    code: "not_found",
    operation: "build",
    subject: directory,
    reason: "it holds no Compose file (compose.yaml)",
    hint: "name the directory or the file of a Compose project",
  });
}

async function firstExisting(directory: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    const path = join(directory, name);
    if ((await stat(path).catch(() => undefined))?.isFile()) return path;
  }
  return undefined;
}

/** Compose's rule: lower case, and nothing but letters, digits, dash and underscore. */
function projectName(text: string): string {
  const name = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, "")
    .replace(/^[_-]+/, "");
  return name === "" ? "project" : name;
}

/** Sources from sporelet.yaml; an image that only a service names comes from its registry. */
function imageSources(configured: ImageConfig[], used: ComposeFile["images"]): Project["images"] {
  const names = new Set(configured.map(({ name }) => name));
  const others = used.filter(({ name }) => !names.has(name));
  return [
    ...configured.map(({ at: _, ...image }) => image),
    ...others.map(({ name }) => ({ name, kind: "registry" as const, tls: true })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function collectFiles(
  directory: string,
  needed: { path: string; mustExist: boolean; at?: { fail(reason: string): never } }[],
): Promise<ProjectFile[]> {
  const files = new Map<string, ProjectFile>();
  let totalBytes = 0;
  const add = async (path: string): Promise<void> => {
    if (files.has(path)) return;
    const absolute = join(directory, path);
    const info = await lstat(absolute);
    const mode = info.mode & 0o7777;
    if (info.isSymbolicLink())
      files.set(path, { path, mode: 0o777, type: "symlink", target: await readlink(absolute) });
    else if (info.isDirectory()) {
      if (path !== ".") files.set(path, { path, mode, type: "directory" });
      for (const entry of (await readdir(absolute)).sort())
        await add(path === "." ? entry : `${path}/${entry}`);
    } else if (info.isFile()) {
      totalBytes += info.size;
      if (totalBytes > maxFilesBytes) {
        throw new SporeletError({
          code: "invalid_argument",
          operation: "build",
          subject: directory,
          reason: "the files that the Compose file mounts are larger than 512MiB together",
          hint: "put them into an image",
        });
      }
      const digest = createHash("sha256")
        .update(await readFile(absolute))
        .digest("hex");
      files.set(path, { path, mode, type: "file", digest, sizeBytes: info.size });
    }
  };
  for (const { path, mustExist, at } of needed) {
    const absolute = join(directory, path);
    if ((await lstat(absolute).catch(() => undefined)) !== undefined) await add(path);
    else if (mustExist) {
      const reason = `${relative(directory, absolute)} does not exist in the project`;
      if (at !== undefined) at.fail(reason);
      throw new SporeletError({ code: "not_found", operation: "build", subject: absolute, reason });
    }
  }
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}
