import { chmod, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { syncPath } from "@sporelet/host";
import type { Digest } from "@sporelet/page-image";
import { type SnapshotConfig, type SnapshotDescription, type SnapshotFile, snapshotFiles } from "./config.ts";
import { recordFiles, type VerifiedFiles, type VerifyOptions, verifyFile, verifyFiles } from "./digests.ts";
import { type Layout, makeTemporary, removeTemporary, takeAway } from "./layout.ts";
import { parseConfig } from "./parse-config.ts";
import { normalizeReference } from "./reference.ts";
import { writeSeal } from "./seal.ts";
import { configDigest, configName, type StoredSnapshot, snapshotDirectory } from "./snapshot.ts";
import { syncTree } from "./sync-tree.ts";
import type { Lease } from "./uses.ts";

/** A snapshot that is being made. Disposing of it removes it unless it was committed or adopted. */
export interface SnapshotDraft extends AsyncDisposable {
  /**
   * Put `memory`, `vmstate` and, where there are such, `disk`, `kernel`, `initramfs` and `workingset` here,
   * on the store's file system.
   */
  readonly directory: string;
  /**
   * Seals the files and puts the snapshot into the store, where it appears whole or not at all, and gives
   * it a name, which it takes from another snapshot if need be.
   *
   * @param description records for `files` that it lacks are computed, by reading the files; see `changed`.
   * @param tag `name[:tag]`.
   */
  commit(description: SnapshotDescription, tag?: string, signal?: AbortSignal): Promise<StoredSnapshot>;
  /**
   * As `commit`, for a snapshot that was made elsewhere: its config stays as it is, byte for byte, so that
   * its digest is what it was there, and all files are read and compared with it.
   *
   * @param options.base a snapshot in the store that the images here were made from by reflinks: the blocks
   *   that they have in common are not read again.
   * @throws SporeletError `corrupt` when a file is missing, different, or not in the config, or the config is
   *   malformed; `incompatible` when another version of Sporelet wrote the config.
   */
  adopt(configBytes: Uint8Array, tag?: string, options?: AdoptOptions): Promise<StoredSnapshot>;
  /**
   * Does for one file what `adopt` then need not do again: it is read and compared with the config, and is on the
   * disk afterwards. For files that are complete while others are not. The errors are those of `adopt`.
   *
   * @param config of the bytes that `adopt` is going to be given.
   */
  verify(file: SnapshotFile, config: SnapshotConfig, options?: AdoptOptions): Promise<void>;
}

interface AdoptOptions {
  /** What errors call the snapshot. Default of `adopt`: its tag or digest. */
  name?: string | undefined;
  base?: StoredSnapshot | undefined;
  signal?: AbortSignal | undefined;
}

/** What a draft needs of its store. */
export interface DraftOwner {
  /** Called when it is in its place. */
  name(digest: Digest, tag: string | undefined): Promise<StoredSnapshot>;
  /** Keeps it while it has no name yet. */
  lease(digest: Digest): Promise<Lease>;
  /** The snapshot with this digest; undefined when there is none that can be read. */
  find(digest: Digest): Promise<StoredSnapshot | undefined>;
}

/**
 * Frozen files are read-only. Without root memory keeps its write permission: QEMU 7.2 opens the file of a
 * memory backend for writing even when it maps it private, and only root may do that to a read-only file.
 */
function frozenMode(file: SnapshotFile): number {
  return file === "memory" && process.getuid?.() !== 0 ? 0o600 : 0o400;
}

/** A temporary directory that becomes a snapshot. */
export async function createDraft(layout: Layout, owner: DraftOwner): Promise<SnapshotDraft> {
  const directory = await makeTemporary(layout);
  const verified: VerifiedFiles = new Map();
  const adoption = (subject: string | undefined, { base, signal }: AdoptOptions): VerifyOptions => ({
    ...{ subject, adopting: { base }, verified, signal },
    hint: "it was damaged on its way, or at its origin: fetch it again",
  });

  /** @param text the config, of files that are known to be what it says. */
  async function seal(
    config: SnapshotConfig,
    text: string | Uint8Array,
    tag: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<StoredSnapshot> {
    const files = snapshotFiles.filter((file) => config.files[file] !== undefined);
    for (const file of files) await chmod(join(directory, file), frozenMode(file));
    await writeSeal(directory, files);
    const digest = configDigest(text);
    await writeFile(join(directory, configName), text, { mode: 0o400 });
    await syncTree(directory);
    signal?.throwIfAborted();
    using _lease = await owner.lease(digest);
    const place = snapshotDirectory(layout, digest);
    const placed = await putInPlace(directory, place);
    try {
      await syncPath(layout.snapshots);
      return await owner.name(digest, tag);
    } catch (error) {
      // Without its name it would only take space.
      if (placed) await takeAway(layout, place);
      throw error;
    }
  }

  return {
    directory,
    async commit({ changed, ...description }, tag, signal) {
      try {
        if (tag !== undefined) normalizeReference(tag); // Before the work, not after it.
        const parent = description.parent && (await owner.find(description.parent));
        const files = await recordFiles(directory, description.files ?? {}, { parent, changed, signal });
        const created = new Date().toISOString();
        const config: SnapshotConfig = { created, ...description, formatVersion: 2, files };
        return await seal(config, `${JSON.stringify(config, null, 2)}\n`, tag, signal);
      } catch (error) {
        throw SporeletError.from(error, { operation: "store the snapshot", subject: tag });
      }
    },
    async adopt(configBytes, tag, options = {}) {
      const subject = options.name ?? tag ?? configDigest(configBytes);
      try {
        if (tag !== undefined) normalizeReference(tag);
        const config = parseConfig(Buffer.from(configBytes).toString("utf8"), subject);
        await verifyFiles(directory, config, adoption(subject, options));
        return await seal(config, configBytes, tag, options.signal);
      } catch (error) {
        throw SporeletError.from(error, { operation: "store the snapshot", subject });
      }
    },
    async verify(file, config, options = {}) {
      // Both end before this does: what they work on may be removed then.
      const results = await Promise.allSettled([
        verifyFile(directory, file, config, adoption(options.name, options)),
        syncPath(join(directory, file)),
      ]);
      for (const result of results) {
        if (result.status === "rejected")
          throw SporeletError.from(result.reason, { operation: "verify", subject: options.name ?? file });
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
