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
  signal?: AbortSignal | undefined;
}

/**
 * Compares files with what a config says of them.
 *
 * @throws SporeletError `corrupt` that names the first file that is missing, more, or different.
 */
export async function verifyFiles(
  directory: string,
  config: SnapshotConfig,
  { subject, hint, adopting, signal }: VerifyOptions,
): Promise<void> {
  const fail = (file: string, reason: string) =>
    new SporeletError({
      code: "corrupt",
      operation: "verify the snapshot",
      subject,
      reason: `${reason} (${join(directory, file)})`,
      hint,
    });
  for (const file of snapshotFiles) {
    const path = join(directory, file);
    const record = config.files[file];
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    if (record === undefined) {
      if (found !== undefined) throw fail(file, `its config does not name its file ${file}`);
      continue;
    }
    if (found === undefined) throw fail(file, `its file ${file} is missing`);
    const { digest } =
      adopting !== undefined && isOneOf(imageFiles, file)
        ? (await digestImage(directory, file, { parent: adopting.base, signal })).found
        : await digestOf(path, { signal });
    if (digest !== record.digest || found.size !== record.sizeBytes) {
      throw fail(file, `the content of its file ${file} is not what was stored`);
    }
  }
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
