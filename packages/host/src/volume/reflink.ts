import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Whether files in a directory can be reflinks, found out by making one: the file system's type alone does
 * not tell (XFS without the feature, network and overlay file systems). What it makes it removes.
 */
export async function canReflink(directory: string): Promise<boolean> {
  const source = join(directory, `.reflink-${randomBytes(6).toString("hex")}`);
  const target = `${source}.clone`;
  try {
    await writeFile(source, Buffer.alloc(4096, 1), { flag: "wx", mode: 0o600 });
    await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    // Not a finding about reflinks, but about the directory.
    if (
      ["ENOENT", "EACCES", "EROFS", "ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException).code ?? "")
    ) {
      throw error;
    }
    return false;
  } finally {
    await rm(source, { force: true });
    await rm(target, { force: true });
  }
}
