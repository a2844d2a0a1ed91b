import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { pageBytes } from "@sporelet/host";
import {
  type ChunkTable,
  countPages,
  type Digest,
  differingPages,
  digestOf,
  type ImageDigest,
  type PageRun,
  parseChunkTable,
} from "@sporelet/page-image";
import {
  type ChangedPages,
  type FileRecord,
  type ImageFile,
  imageFiles,
  neededFiles,
  type PerFile,
  type SnapshotConfig,
  type SnapshotFile,
  snapshotFiles,
} from "./config.ts";
import type { StoredSnapshot } from "./snapshot.ts";

export interface RecordOptions {
  /** The snapshot that images are compared with, when it is in the store. */
  parent?: StoredSnapshot | undefined;
  /** What may differ from the parent; what is not given is found out. */
  changed?: ChangedPages | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * The digests of the chunks of an image lie beside it: with them, the digest of a child costs what changed.
 * They follow from the image, so that a snapshot without them is as good, only slower to make children of.
 */
function chunksPath(directory: string, file: ImageFile): string {
  return join(directory, `${file}.chunks`);
}

/**
 * Records of the files in a directory, computed where they are not known yet; writes the images' chunk tables.
 *
 * @throws SporeletError `not_found` for a file that a machine cannot do without.
 */
export async function recordFiles(
  directory: string,
  known: Partial<PerFile<FileRecord>>,
  options: RecordOptions,
): Promise<PerFile<FileRecord>> {
  const files: Partial<Record<SnapshotFile, FileRecord>> = {};
  for (const file of snapshotFiles) {
    const path = join(directory, file);
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT" || isOneOf(neededFiles, file)) throw error;
    });
    if (found === undefined) continue;
    const given = known[file];
    if (given !== undefined) files[file] = given;
    else if (isOneOf(imageFiles, file)) files[file] = await recordImage(directory, file, found.size, options);
    else files[file] = { ...(await digestRecord(path, options.signal)), sizeBytes: found.size };
  }
  // The loop above has failed if one that is needed is missing.
  return files as PerFile<FileRecord>;
}

async function recordImage(
  directory: string,
  file: ImageFile,
  sizeBytes: number,
  options: RecordOptions,
): Promise<FileRecord> {
  const { found, changed } = await digestImage(directory, file, options);
  const { digest, usedBytes } = found;
  const ownBytes = changed === undefined ? usedBytes : countPages(changed) * pageBytes;
  return { digest, sizeBytes, usedBytes, ownBytes };
}

/** The digest of an image, of which only what is not in the parent's is read; writes its chunk table. */
async function digestImage(
  directory: string,
  file: ImageFile,
  { parent, changed: given, signal }: RecordOptions,
): Promise<{ found: ImageDigest; changed: readonly PageRun[] | undefined }> {
  const path = join(directory, file);
  const parentImage = parent?.files[file];
  const changed =
    parentImage === undefined
      ? undefined
      : (given?.[file] ?? (await differingPages(path, parentImage, { signal })));
  const table = changed === undefined || parent === undefined ? undefined : await readTable(parent, file);
  const found = await digestOf(path, { signal, ...(table && changed && { base: { table, changed } }) });
  await writeFile(chunksPath(directory, file), found.table.toBuffer(), { mode: 0o400 });
  return { found, changed };
}

/** The parent's table; undefined when it has none, or one that is not of its image. */
async function readTable(parent: StoredSnapshot, file: ImageFile): Promise<ChunkTable | undefined> {
  try {
    const table = parseChunkTable(await readFile(chunksPath(parent.directory, file)));
    return table.digest === parent.config.files[file]?.digest ? table : undefined;
  } catch (error) {
    const { code } = SporeletError.from(error, { operation: "read the chunk table of", subject: file });
    if (code === "not_found" || code === "corrupt" || code === "incompatible") return undefined;
    throw error;
  }
}

export interface VerifyOptions {
  /** For errors: what is verified, and what to do when it is damaged. */
  subject: string | undefined;
  hint: string;
  /**
   * Of files that are new in the store: chunk tables are written, and what of the images is the same as in
   * this snapshot is taken to be as that was verified.
   */
  adopting?: { base?: StoredSnapshot | undefined };
  /** Files that were verified before, and are not read again unless they were written since. */
  verified?: VerifiedFiles;
  signal?: AbortSignal | undefined;
}

/** What was verified, and when the file was last written then. */
export type VerifiedFiles = Map<SnapshotFile, { digest: Digest; mtimeNs: bigint }>;

/**
 * Compares files with what a config says of them.
 *
 * @throws SporeletError `corrupt` that names the first file that is missing, more, or different.
 */
export async function verifyFiles(
  directory: string,
  config: SnapshotConfig,
  options: VerifyOptions,
): Promise<void> {
  for (const file of snapshotFiles) await verifyFile(directory, file, config, options);
}

/** As `verifyFiles`, for one of them. What is verified is added to `verified`. */
export async function verifyFile(
  directory: string,
  file: SnapshotFile,
  config: SnapshotConfig,
  { subject, hint, adopting, verified, signal }: VerifyOptions,
): Promise<void> {
  const path = join(directory, file);
  const fail = (reason: string) =>
    new SporeletError({
      code: "corrupt",
      operation: "verify the snapshot",
      subject,
      reason: `${reason} (${path})`,
      hint,
    });
  const record = config.files[file];
  const found = await stat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  if (record === undefined) {
    if (found !== undefined) throw fail(`its config does not name its file ${file}`);
    return;
  }
  if (found === undefined) throw fail(`its file ${file} is missing`);
  const { mtimeNs } = found;
  const known = verified?.get(file);
  const digest =
    known?.mtimeNs === mtimeNs
      ? known.digest
      : adopting !== undefined && isOneOf(imageFiles, file)
        ? (await digestImage(directory, file, { parent: adopting.base, signal })).found.digest
        : (await digestOf(path, { signal })).digest;
  if (digest !== record.digest || Number(found.size) !== record.sizeBytes) {
    throw fail(`the content of its file ${file} is not what was stored`);
  }
  verified?.set(file, { digest, mtimeNs });
}

async function digestRecord(
  path: string,
  signal: AbortSignal | undefined,
): Promise<{ digest: Digest; usedBytes: number }> {
  const { digest, usedBytes } = await digestOf(path, { signal });
  return { digest, usedBytes };
}

function isOneOf<T extends string>(list: readonly T[], value: string): value is T {
  return (list as readonly string[]).includes(value);
}
