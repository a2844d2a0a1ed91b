/**
 * Writes image archives of the kind that `docker save` writes and `docker load` reads (moby:
 * image/spec/spec.md): layers as tar files, a config named by its digest, and manifest.json. The same input
 * gives the same bytes.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Pack, pack } from "tar-stream";

export interface ImageConfigOptions {
  command: readonly string[];
  entrypoint: readonly string[];
  env: Readonly<Record<string, string>>;
  workdir: string;
  user: string;
  expose: readonly number[];
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The image's config; members are in a fixed order, so that its digest is a fixed one. */
export function imageConfig(options: ImageConfigOptions, diffIds: readonly string[]): string {
  const env = { PATH: defaultPath, ...options.env };
  return JSON.stringify({
    architecture: "amd64",
    os: "linux",
    created: "1970-01-01T00:00:00Z",
    config: {
      Env: Object.entries(env)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, value]) => `${name}=${value}`),
      ...(options.entrypoint.length > 0 && { Entrypoint: options.entrypoint }),
      ...(options.command.length > 0 && { Cmd: options.command }),
      WorkingDir: options.workdir,
      User: options.user,
      ...(options.expose.length > 0 && {
        ExposedPorts: Object.fromEntries(
          [...options.expose].sort((a, b) => a - b).map((port) => [`${port}/tcp`, {}]),
        ),
      }),
    },
    rootfs: { type: "layers", diff_ids: diffIds },
    history: diffIds.map(() => ({ created: "1970-01-01T00:00:00Z", created_by: "sporelet" })),
  });
}

/**
 * @param layers uncompressed tar files, lowest first
 * @param target path of the archive; its directory must exist
 */
export async function writeDockerArchive(
  image: { name: string; options: ImageConfigOptions },
  layers: readonly string[],
  target: string,
  signal?: AbortSignal | undefined,
): Promise<void> {
  const digests = await Promise.all(layers.map((path) => sha256OfFile(path, signal)));
  const config = imageConfig(
    image.options,
    digests.map((digest) => `sha256:${digest}`),
  );
  const configName = `${createHash("sha256").update(config).digest("hex")}.json`;
  const layerNames = digests.map((digest) => `${digest}/layer.tar`);
  const archive = pack();
  const written = pipeline(archive, createWriteStream(target), { signal });
  try {
    for (const [index, path] of layers.entries()) {
      const name = layerNames[index] ?? "";
      // Two equal layers are one file.
      if (layerNames.indexOf(name) === index) await addStream(archive, name, path, signal);
    }
    add(archive, configName, config);
    add(
      archive,
      "manifest.json",
      JSON.stringify([{ Config: configName, RepoTags: [image.name], Layers: layerNames }]),
    );
    archive.finalize();
  } catch (error) {
    archive.destroy(error as Error);
    await written.catch(() => {});
    throw error;
  }
  await written;
}

/** One file of a layer, as `writeLayer` takes it. Paths have no leading slash. */
export interface LayerFile {
  path: string;
  mode: number;
  content: Uint8Array;
}

/** Writes a small layer: files owned by root with time zero, parent directories before them. */
export async function writeLayer(files: readonly LayerFile[], target: string): Promise<void> {
  const archive = pack();
  const written = pipeline(archive, createWriteStream(target));
  const directories = new Set<string>();
  for (const file of [...files].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const parts = file.path.split("/").slice(0, -1);
    for (const [depth] of parts.entries()) {
      const name = parts.slice(0, depth + 1).join("/");
      if (directories.has(name)) continue;
      directories.add(name);
      archive.entry({ ...owner, name: `${name}/`, type: "directory", mode: 0o755 });
    }
    archive.entry({ ...owner, name: file.path, mode: file.mode }, Buffer.from(file.content));
  }
  archive.finalize();
  await written;
}

const owner = { uid: 0, gid: 0, mtime: new Date(0) };

function add(archive: Pack, name: string, content: string): void {
  archive.entry({ ...owner, name, mode: 0o644 }, content);
}

async function addStream(
  archive: Pack,
  name: string,
  path: string,
  signal?: AbortSignal | undefined,
): Promise<void> {
  const { size } = await stat(path);
  const entry = archive.entry({ ...owner, name, mode: 0o644, size });
  await pipeline(createReadStream(path), entry as unknown as NodeJS.WritableStream, { signal });
}

async function sha256OfFile(path: string, signal?: AbortSignal | undefined): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path) as Readable, hash, { signal });
  return hash.digest("hex");
}
