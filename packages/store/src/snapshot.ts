import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";
import { type PerFile, type SnapshotConfig, type SnapshotFile, snapshotFiles } from "./config.ts";
import { hexOf } from "./digest-name.ts";
import { verifyFiles } from "./digests.ts";
import type { Layout } from "./layout.ts";
import { parseConfig } from "./parse-config.ts";

/** A snapshot in the store. Its files are frozen: they are mapped and cloned, never written. */
export interface StoredSnapshot {
  /** Of the config, which holds the digests of the files: it names the whole. */
  digest: Digest;
  /** Its names, as `name:tag`. */
  tags: string[];
  directory: string;
  config: SnapshotConfig;
  /** Paths of the files that it has. */
  files: PerFile<string>;
}

export const configName = "config.json";

export function snapshotDirectory(layout: Layout, digest: Digest): string {
  return join(layout.snapshots, hexOf(digest, "use the snapshot"));
}

export function configDigest(text: string | Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
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
  const files: Partial<PerFile<string>> = {};
  for (const file of snapshotFiles) if (config.files[file] !== undefined) files[file] = join(directory, file);
  return { digest, tags, directory, config, files: files as PerFile<string> };
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
  const { directory, config } = snapshot;
  const subject = snapshot.tags[0] ?? snapshot.digest;
  const hint = "remove the snapshot, and pull it or build it again";
  if (configDigest(await readFile(join(directory, configName))) !== snapshot.digest) {
    const reason = `the content of its file ${configName} is not what was stored (${join(directory, configName)})`;
    throw new SporeletError({ code: "corrupt", operation: "verify the snapshot", subject, reason, hint });
  }
  await verifyFiles(directory, config, { subject, hint, signal });
}
