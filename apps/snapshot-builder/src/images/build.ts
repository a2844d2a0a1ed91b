/**
 * Container images as archives that `docker load` takes, whatever they are made from. Each is cached by what
 * it is made from.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { SporeletError } from "@sporelet/errors";
import { type Cache, cacheKey } from "@sporelet/store";
import { bootstrap } from "../debian/mmdebstrap.ts";
import { suite } from "../debian/sources.ts";
import type { ImageSource, PackageImage } from "../project/config.ts";
import { type LayerFile, writeDockerArchive, writeLayer } from "./docker-archive.ts";
import { archiveReference, copyImage, registryDigest } from "./skopeo.ts";

export interface BuiltImage {
  name: string;
  /** Path of the archive. */
  archive: string;
  /** Stands for its content. */
  key: string;
  cached: boolean;
}

export interface ImageBuildOptions {
  cache: Cache;
  projectDirectory: string;
  refresh: boolean;
  signal?: AbortSignal | undefined;
  onLine: (line: string) => void;
  onProgress: (fraction: number, detail: string) => void;
}

/** Raised when archives come out differently without any of their inputs being different. */
const format = 1;

/**
 * @throws SporeletError `not_found` for an image or file that does not exist, `invalid_argument` for an
 *   archive that holds other images, `unavailable` when a registry does not answer
 */
export async function buildImage(
  image: { name: string } & ImageSource,
  options: ImageBuildOptions,
): Promise<BuiltImage> {
  if (image.name.includes("@")) {
    throw new SporeletError({
      code: "invalid_argument",
      operation: "load the image",
      subject: image.name,
      reason: "dockerd cannot load images under a digest",
      hint: "name it by a tag",
    });
  }
  switch (image.kind) {
    case "packages":
      return fromPackages(image, options);
    case "archive": {
      const path = join(options.projectDirectory, image.path);
      return cached(
        image.name,
        ["archive", await digestOfFile(path, options.signal)],
        options,
        async (target) => copyImage(await archiveReference(path, image.name), target, image.name, options),
      );
    }
    case "layout": {
      const path = join(options.projectDirectory, image.path);
      const [directory = ""] = path.split(":");
      const index = await digestOfFile(join(directory, "index.json"), options.signal);
      return cached(image.name, ["layout", index, image.path], options, (target) =>
        copyImage({ reference: `oci:${path}` }, target, image.name, options),
      );
    }
    case "registry": {
      const digest = await registryDigest(image.name, image.tls, options.signal);
      return cached(image.name, ["registry", digest], options, (target) =>
        copyImage({ reference: `docker://${image.name}`, tls: image.tls }, target, image.name, options),
      );
    }
  }
}

async function cached(
  name: string,
  parts: string[],
  { cache, refresh, signal }: ImageBuildOptions,
  create: (target: string) => Promise<void>,
): Promise<BuiltImage> {
  const key = cacheKey([format, name, parts]);
  const file = "image.tar";
  const entry = await cache.getOrCreate("image", key, (directory) => create(join(directory, file)), {
    signal,
    refresh,
  });
  return { name, key, archive: join(entry.directory, file), cached: entry.cached };
}

/** Packages are one layer, shared by images that have the same ones; the project's files are another. */
async function fromPackages(
  image: { name: string } & PackageImage,
  options: ImageBuildOptions,
): Promise<BuiltImage> {
  const { cache, refresh, signal, projectDirectory, onLine, onProgress } = options;
  const { packages, configure, exclude } = image;
  const layerKey = cacheKey([format, suite, [...packages].sort(), configure, exclude]);
  const layer = await cache.getOrCreate(
    "image-packages",
    layerKey,
    (directory) =>
      bootstrap({
        variant: configure ? "essential" : "extract",
        // dash: a healthcheck or an entry point in shell form needs /bin/sh.
        packages: configure ? packages : ["dash", "base-files", ...packages],
        exclude: [...exclude, "/var/cache/*", "/usr/lib/*/gconv/*"],
        target: join(directory, "packages.tar"),
        scratch: directory,
        signal,
        onLine,
        onProgress: (fraction, line) => onProgress(fraction, `${image.name}: ${line}`),
      }),
    { signal, refresh },
  );
  const files = await Promise.all(
    image.files.map(async ({ source, target, mode }): Promise<LayerFile> => {
      const path = join(projectDirectory, source);
      const content = await readFile(path).catch((error) => {
        throw SporeletError.from(error, {
          operation: `add a file to the image ${image.name}:`,
          subject: path,
        });
      });
      return { path: target.slice(1), mode, content };
    }),
  );
  // Without maintainer scripts nobody made these.
  if (!configure) files.push(...accounts);
  const config = {
    ...image,
    packages: [],
    files: files.map(({ path, mode, content }) => [path, mode, sha256(content)]),
  };
  const { command, entrypoint, env, workdir, user, expose } = config;
  const parts = [layerKey, JSON.stringify([config.files, command, entrypoint, env, workdir, user, expose])];
  return cached(image.name, parts, { ...options, refresh: refresh || !layer.cached }, async (target) => {
    const filesLayer = `${target}.files`;
    await writeLayer(files, filesLayer);
    const layers = [join(layer.directory, "packages.tar"), ...(files.length > 0 ? [filesLayer] : [])];
    await writeDockerArchive({ name: image.name, options: image }, layers, target, signal);
  });
}

const accounts: LayerFile[] = [
  {
    path: "etc/passwd",
    mode: 0o644,
    content: Buffer.from("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
  },
  { path: "etc/group", mode: 0o644, content: Buffer.from("root:x:0:\nnogroup:x:65534:\n") },
];

function sha256(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

async function digestOfFile(path: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(path), hash, { signal });
  } catch (error) {
    throw SporeletError.from(error, { operation: "read the image", subject: path });
  }
  return hash.digest("hex");
}
