import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/**
 * Replaces a file's content so that a crash at any instant leaves the old content or the new one: write to a
 * temporary file beside it, fsync, rename, fsync the directory. The temporary file's name is
 * `.NAME.XXXXXXXX.tmp`; one that a crash left behind may be removed.
 *
 * @param mode permissions of the file. Default: 0600.
 */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomBytes(4).toString("hex")}.tmp`);
  try {
    await using handle = await open(temporary, "wx", mode);
    await handle.writeFile(data);
    await handle.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncPath(directory);
}

/** Sees to it that a file's content, or a directory's entries, survive a crash of the host: fsync(2). */
export async function syncPath(path: string): Promise<void> {
  await using handle = await open(path, "r");
  await handle.sync();
}
