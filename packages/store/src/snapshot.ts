import { createHash } from "node:crypto";
import { chmod, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { syncPath } from "@sporelet/host";
import { type Digest, digestOf } from "@sporelet/page-image";
import {
  type FileRecord,
  type PerFile,
  parseConfig,
  type SnapshotConfig,
  type SnapshotDescription,
  type SnapshotFile,
  snapshotFiles,
} from "./config.ts";
import { type Layout, makeTemporary, removeTemporary, takeAway } from "./layout.ts";
import { normalizeReference } from "./reference.ts";
import { writeSeal } from "./seal.ts";
import { syncTree } from "./sync-tree.ts";

/** A snapshot in the store. Its files are frozen: they are mapped and cloned, never written. */
export interface StoredSnapshot {
  /** Of the config, which holds the digests of the files: it names the whole. */
  digest: Digest;
  /** Its names, as `name:tag`. */
  tags: string[];
  directory: string;
  config: SnapshotConfig;
  /** Paths. `disk` is absent on machines without one. */
  files: PerFile<string>;
}

/** A snapshot that is being made. Disposing of it removes it unless it was committed. */
export interface SnapshotDraft extends AsyncDisposable {
  /** Put `memory`, `vmstate`, `disk`, `kernel` and `initramfs` here, on the store's file system. */
  readonly directory: string;
  /**
   * Seals the files and puts the snapshot into the store, where it appears whole or not at all, and gives
   * it a name, which it takes from another snapshot if need be.
   *
   * @param description records for `files` that it lacks are computed, by reading the files.
   * @param tag `name[:tag]`.
   */
  commit(description: SnapshotDescription, tag?: string, signal?: AbortSignal): Promise<StoredSnapshot>;
}

const configName = "config.json";
const needed: SnapshotFile[] = ["memory", "vmstate", "kernel", "initramfs"];

/**
 * Frozen files are read-only. Without root memory keeps its write permission: QEMU 7.2 opens the file of a
 * memory backend for writing even when it maps it private, and only root may do that to a read-only file.
 */
function frozenMode(file: SnapshotFile): number {
  return file === "memory" && process.getuid?.() !== 0 ? 0o600 : 0o400;
}

/** A temporary directory that becomes a snapshot. `name` is called when it has. */
export async function createDraft(
  layout: Layout,
  name: (digest: Digest, tag: string | undefined) => Promise<StoredSnapshot>,
): Promise<SnapshotDraft> {
  const directory = await makeTemporary(layout);
  return {
    directory,
    async commit(description, tag, signal) {
      const operation = "store the snapshot";
      const subject = tag;
      try {
        if (tag !== undefined) normalizeReference(tag); // Before the work, not after it.
        const config = await completeConfig(directory, description, signal);
        const files = snapshotFiles.filter((file) => config.files[file] !== undefined);
        for (const file of files) await chmod(join(directory, file), frozenMode(file));
        await writeSeal(directory, files);
        const text = `${JSON.stringify(config, null, 2)}\n`;
        const digest = configDigest(text);
        await writeFile(join(directory, configName), text, { mode: 0o400 });
        await syncTree(directory);
        signal?.throwIfAborted();
        const place = snapshotDirectory(layout, digest);
        const placed = await putInPlace(directory, place);
        try {
          await syncPath(layout.snapshots);
          return await name(digest, tag);
        } catch (error) {
          // Without its name it would only take space.
          if (placed) await takeAway(layout, place);
          throw error;
        }
      } catch (error) {
        throw SporeletError.from(error, { operation, subject });
      }
    },
    [Symbol.asyncDispose]: () => removeTemporary(directory),
  };
}

/** @returns false when the same snapshot is there already; the draft is then disposed of as it is. */
async function putInPlace(directory: string, place: string): Promise<boolean> {
  try {
    await rename(directory, place);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    return false;
  }
}

export function snapshotDirectory(layout: Layout, digest: Digest): string {
  return join(layout.snapshots, digest.slice("sha256:".length));
}

function configDigest(text: string | Buffer): Digest {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

async function completeConfig(
  directory: string,
  description: SnapshotDescription,
  signal?: AbortSignal,
): Promise<SnapshotConfig> {
  const files: Partial<Record<SnapshotFile, FileRecord>> = {};
  for (const file of snapshotFiles) {
    const path = join(directory, file);
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT" || needed.includes(file)) throw error;
    });
    if (found === undefined) continue;
    const given = description.files?.[file];
    files[file] = given ?? { ...(await digestOf(path, signal)), sizeBytes: found.size };
  }
  // The loop above has failed if one that is needed is missing.
  const complete = files as PerFile<FileRecord>;
  return { created: new Date().toISOString(), ...description, formatVersion: 1, files: complete };
}

/**
 * Reads a stored snapshot's config.
 *
 * @throws SporeletError `not_found`; `corrupt`, `incompatible` (see `parseConfig`).
 */
export async function readSnapshot(layout: Layout, digest: Digest, tags: string[]): Promise<StoredSnapshot> {
  const directory = snapshotDirectory(layout, digest);
  const path = join(directory, configName);
  const config = parseConfig(await readFile(path, "utf8"), path);
  const at = (file: SnapshotFile) => join(directory, file);
  return {
    digest,
    tags,
    directory,
    config,
    files: {
      memory: at("memory"),
      vmstate: at("vmstate"),
      kernel: at("kernel"),
      initramfs: at("initramfs"),
      ...(config.files.disk === undefined ? {} : { disk: at("disk") }),
    },
  };
}

export function filesOf(snapshot: StoredSnapshot): SnapshotFile[] {
  return snapshotFiles.filter((file) => snapshot.config.files[file] !== undefined);
}

/**
 * Hashes everything again.
 *
 * @throws SporeletError `corrupt` that names the first file with other content than it was stored with.
 */
export async function verifySnapshot(snapshot: StoredSnapshot, signal?: AbortSignal): Promise<void> {
  const fail = (file: string) =>
    new SporeletError({
      code: "corrupt",
      operation: "verify the snapshot",
      subject: snapshot.tags[0] ?? snapshot.digest,
      reason: `the content of its file ${file} is not what was stored (${join(snapshot.directory, file)})`,
      hint: "remove the snapshot and build it again",
    });
  if (configDigest(await readFile(join(snapshot.directory, configName))) !== snapshot.digest)
    throw fail(configName);
  for (const file of filesOf(snapshot)) {
    const found = await digestOf(join(snapshot.directory, file), signal);
    if (found.digest !== snapshot.config.files[file]?.digest) throw fail(file);
  }
}
