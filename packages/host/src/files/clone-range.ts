import { ioctl } from "../syscalls.ts";

/** FICLONERANGE of ioctl_ficlonerange(2): _IOW(0x94, 13, struct file_clone_range). */
const ficlonerange = 0x4020940d;

/** As in `cloneFile`: the file system cannot share these blocks. */
const noReflink = new Set(["ENOTSUP", "EOPNOTSUPP", "EXDEV", "EINVAL", "ENOTTY", "ENOSYS"]);

/**
 * Makes a range of one open file share the blocks of the same range of another. Both ends lie on blocks, or
 * at the end of both files.
 *
 * @returns false when the file system cannot; nothing has changed then.
 */
export function cloneRange(source: number, target: number, offset: number, bytes: number): boolean {
  const argument = Buffer.alloc(32);
  argument.writeBigInt64LE(BigInt(source), 0);
  argument.writeBigUInt64LE(BigInt(offset), 8);
  argument.writeBigUInt64LE(BigInt(bytes), 16);
  argument.writeBigUInt64LE(BigInt(offset), 24);
  try {
    ioctl(target, ficlonerange, argument);
    return true;
  } catch (error) {
    if (noReflink.has((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
