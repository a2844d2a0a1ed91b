import { constants } from "node:fs";
import { chmod, copyFile, type FileHandle, open, rm, stat } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { punchHole } from "../syscalls.ts";
import { scanData } from "./extents.ts";
import { nonZeroRuns } from "./pages.ts";
import { writeFully } from "./write.ts";

/** The file system cannot share these files' blocks: not supported, or not one file system (ioctl_ficlone(2)). */
const noReflink = new Set(["ENOTSUP", "EOPNOTSUPP", "EXDEV", "EINVAL", "ENOTTY", "ENOSYS"]);

export interface CopyOptions {
  /** Permissions of the new file. Default: 0600, whatever the source has: frozen files are read-only. */
  mode?: number;
  signal?: AbortSignal | undefined;
}

/**
 * Makes a file with the same content: a reflink, which shares the blocks until one side changes them and
 * takes no time, or where the file system has none a sparse copy.
 *
 * @returns which of the two it was.
 * @throws SporeletError `already_exists` when the target exists; it stays as it was.
 */
export async function cloneFile(
  source: string,
  target: string,
  options: CopyOptions = {},
): Promise<"reflink" | "copy"> {
  try {
    await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || !noReflink.has(code)) throw copyError(error, source, target);
    await copySparse(source, target, options.signal, options.mode);
    return "copy";
  }
  await chmod(target, options.mode ?? 0o600);
  return "reflink";
}

/**
 * Copies what is not zero; the rest of the new file is holes. A copy that fails or is aborted is removed.
 *
 * @param mode permissions of the new file.
 * @throws SporeletError `already_exists` when the target exists; it stays as it was.
 */
export async function copySparse(
  source: string,
  target: string,
  signal?: AbortSignal,
  mode = 0o600,
): Promise<void> {
  try {
    await using from = await open(source, "r");
    await using to = await open(target, "wx", mode);
    try {
      await copyData(from, to, signal);
    } catch (error) {
      await rm(target, { force: true });
      throw error;
    }
  } catch (error) {
    throw copyError(error, source, target);
  }
}

async function copyData(from: FileHandle, to: FileHandle, signal?: AbortSignal): Promise<void> {
  await to.truncate((await from.stat()).size);
  const copy = async (buffer: Buffer, filled: number, offset: number) => {
    for (const run of nonZeroRuns(buffer, filled)) {
      await writeFully(to, buffer, run.offset, run.length, offset + run.offset);
    }
  };
  await scanData(from, copy, signal);
}

/**
 * Gives back the space of a file's zero pages. Where the file system cannot (EOPNOTSUPP) the file stays as it
 * is. The file's content is the same at every instant.
 *
 * @returns the bytes of the pages that are not zero.
 */
export async function punchZeroPages(path: string, signal?: AbortSignal): Promise<{ usedBytes: number }> {
  await using handle = await open(path, "r+");
  let usedBytes = 0;
  let supported = true;
  // Blocks come in order, so zeros that go on over a block's end are punched as one.
  let zerosFrom = 0;
  let zerosTo = 0;
  const punch = () => {
    if (!supported || zerosTo <= zerosFrom) return;
    try {
      punchHole(handle.fd, zerosFrom, zerosTo - zerosFrom);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EOPNOTSUPP") throw error;
      supported = false;
    }
  };
  const visit = (buffer: Buffer, filled: number, offset: number) => {
    if (offset !== zerosTo) {
      punch();
      zerosFrom = offset;
    }
    for (const run of nonZeroRuns(buffer, filled)) {
      zerosTo = offset + run.offset;
      punch();
      zerosFrom = zerosTo + run.length;
      usedBytes += run.length;
    }
    zerosTo = offset + filled;
  };
  await scanData(handle, visit, signal);
  punch();
  return { usedBytes };
}

/** What a file takes on the disk; holes take nothing, shared blocks count in full. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512; // stat(2): st_blocks is in units of 512 bytes.
}

function copyError(error: unknown, source: string, target: string): SporeletError {
  const context = { operation: "copy", subject: source };
  if ((error as NodeJS.ErrnoException).code === "EEXIST") {
    return new SporeletError({
      ...context,
      code: "already_exists",
      reason: `${target} exists`,
      cause: error,
    });
  }
  return SporeletError.from(error, context);
}
