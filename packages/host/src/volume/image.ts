import { open, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { syncPath } from "../files/atomic.ts";
import { runProcess } from "../process.ts";

const GiB = 1024 ** 3;
const largestBytes = 64 * GiB;
const shareOfFreeSpace = 0.8;
/** mkfs.xfs of xfsprogs 5.19 and later makes nothing smaller; with some room for what it is for. */
const smallestBytes = 512 * 1024 * 1024;

/** How large to make an image, given the free space; undefined when there is too little. It is sparse. */
export function imageSize(freeBytes: number): number | undefined {
  const wanted = Math.min(largestBytes, freeBytes * shareOfFreeSpace);
  return wanted < smallestBytes ? undefined : Math.floor(wanted / 4096) * 4096;
}

export async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

/** Makes a sparse file with an empty XFS. It has its name only when it is complete. */
export async function makeImage(path: string, sizeBytes: number, signal?: AbortSignal): Promise<void> {
  const temporary = `${path}.new`;
  try {
    await rm(temporary, { force: true }); // Of a process that crashed in here.
    await using handle = await open(temporary, "wx", 0o600);
    await handle.truncate(sizeBytes);
    await runProcess(["mkfs.xfs", "-q", "-m", "reflink=1", temporary], {
      operation: "make a file system for the store",
      signal,
      timeoutMs: 120_000,
    });
    await handle.sync();
    await rename(temporary, path);
    await syncPath(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    throw SporeletError.from(error, { operation: "make a file system for the store", subject: path });
  }
}

/**
 * Mounts an image by a loop device, with direct I/O: its pages are cached once, by the XFS inside. What is removed
 * inside is not given back outside at once (`discard`): for as long as that takes every sync waits, 200 to 300 ms
 * after the removal of one clone. The device detaches itself with the last use of the mount.
 *
 * @throws SporeletError `corrupt` when the kernel does not take the file system for sound.
 */
export async function mountImage(image: string, directory: string, signal?: AbortSignal): Promise<void> {
  const options = { operation: "mount the store", signal, timeoutMs: 60_000 };
  // One may be attached already: of a process that crashed before it could mount it.
  const attached = (await runProcess(["losetup", "-n", "-O", "NAME", "-j", image], options)).stdout
    .trim()
    .split("\n")[0];
  const device =
    attached ||
    (await runProcess(["losetup", "--find", "--show", "--direct-io=on", image], options)).stdout.trim();
  try {
    await runProcess(["mount", "-t", "xfs", "-o", "noatime", device, directory], options);
  } catch (error) {
    throw mountError(error, image);
  } finally {
    // In use by the mount it is not detached but marked to be, once that ends; otherwise it goes at once.
    await runProcess(["losetup", "--detach", device], { operation: options.operation, timeoutMs: 60_000 });
  }
}

function mountError(error: unknown, image: string): unknown {
  const log = error instanceof SporeletError ? (error.log ?? "") : "";
  if (!/bad superblock|wrong fs type|needs cleaning|read superblock|I\/O error/i.test(log)) return error;
  return new SporeletError({
    code: "corrupt",
    operation: "mount the store",
    subject: image,
    reason: "its file system is damaged",
    hint: `xfs_repair ${image}   (or move the file away to begin with an empty store)`,
    log,
    cause: error,
  });
}

/** What an image that is mounted holds, less what counts as used in it; bytes. */
export async function spareBytesOf(image: string, directory: string): Promise<number> {
  const [held, inside] = await Promise.all([stat(image), statfs(directory)]);
  return held.blocks * 512 - (inside.blocks - inside.bfree) * inside.bsize;
}

/** Gives back outside what is free inside. It takes a second, or next to nothing when nothing was removed. */
export async function trimImage(directory: string): Promise<void> {
  await runProcess(["fstrim", directory], { operation: "trim the store", timeoutMs: 600_000 });
}
