import { type FileHandle, open } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { ioctl } from "../syscalls.ts";

/** A stretch of a file, and where the file system keeps it. */
export interface PhysicalExtent {
  /** In the file, bytes. */
  offset: number;
  length: number;
  /**
   * Where it begins on the file system's device, bytes. Two files have the same blocks exactly where this is
   * equal. Undefined where the kernel gives no address that could be compared: data not written to the disk
   * yet, inline in metadata, or compressed.
   */
  physical: number | undefined;
  /** Space is reserved and reads as zeros. */
  unwritten: boolean;
  /** Other files have these blocks too. The kernel may say so of a whole extent of which only a part is. */
  shared: boolean;
}

export interface PhysicalExtentOptions {
  /** The first byte of the file to look at. Default: 0. */
  offset?: number;
  /** How many bytes to look at. Default: all that follow, up to the file's size. */
  length?: number;
  /**
   * Tell whole blocks, as they take space: the last one with what lies behind the end of the file, and those
   * that are reserved there. Default: false.
   */
  pastEnd?: boolean;
  /**
   * Write the file's dirty pages first, so that all of it has an address. Default: true. Without it pages on
   * their way to the disk come as extents without one.
   */
  sync?: boolean;
  /** With more extents than this the answer is undefined: a list for 4 GiB in single pages. Default: 1,048,576. */
  maxExtents?: number;
  signal?: AbortSignal | undefined;
}

/** _IOWR('f', 11, struct fiemap): include/uapi/linux/fs.h; the rest: include/uapi/linux/fiemap.h. */
const FS_IOC_FIEMAP = 0xc020660b;
const FIEMAP_FLAG_SYNC = 1;
const FIEMAP_EXTENT_LAST = 0x1;
const FIEMAP_EXTENT_UNKNOWN = 0x2;
const FIEMAP_EXTENT_DELALLOC = 0x4;
const FIEMAP_EXTENT_ENCODED = 0x8;
const FIEMAP_EXTENT_DATA_ENCRYPTED = 0x80;
const FIEMAP_EXTENT_DATA_INLINE = 0x200;
const FIEMAP_EXTENT_DATA_TAIL = 0x400;
const FIEMAP_EXTENT_UNWRITTEN = 0x800;
const FIEMAP_EXTENT_SHARED = 0x2000;

/** With one of these `fe_physical` is no address, or not one of the data as it reads. */
const withoutAddress =
  FIEMAP_EXTENT_UNKNOWN |
  FIEMAP_EXTENT_DELALLOC |
  FIEMAP_EXTENT_ENCODED |
  FIEMAP_EXTENT_DATA_ENCRYPTED |
  FIEMAP_EXTENT_DATA_INLINE |
  FIEMAP_EXTENT_DATA_TAIL;

const headerBytes = 32;
const extentBytes = 56;
/** A call blocks the thread for as long as its extents take, so no more than these in one. */
const extentsPerCall = 4096;

/** One for all calls: it is written and read without anything in between. */
let sharedArgument: Buffer | undefined;

/** The file system has no FIEMAP, or not with our flags (EBADR: FUSE and network file systems). */
const unsupported = new Set(["EOPNOTSUPP", "ENOTSUP", "ENOTTY", "ENOSYS", "EBADR"]);

/**
 * Where a file's data is on the disk, in order of the file; what lies between is holes. XFS, Btrfs and ext4
 * can tell; tmpfs, for one, cannot.
 *
 * Extents are told as the file system has them: neighbours may be one extent in another file. A file that is
 * written to meanwhile gives a list in order, of which parts may be old.
 *
 * @returns undefined where the file system cannot tell, or has more than `maxExtents` to tell.
 * @throws SporeletError `not_found`, `cancelled`.
 */
export async function physicalExtents(
  file: string | FileHandle,
  options: PhysicalExtentOptions = {},
): Promise<PhysicalExtent[] | undefined> {
  try {
    if (typeof file !== "string") return await extentsOf(file, options);
    await using handle = await open(file, "r");
    return await extentsOf(handle, options);
  } catch (error) {
    if (unsupported.has((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    const subject = typeof file === "string" ? file : undefined;
    throw SporeletError.from(error, { operation: "find the blocks of", subject });
  }
}

async function extentsOf(
  handle: FileHandle,
  options: PhysicalExtentOptions,
): Promise<PhysicalExtent[] | undefined> {
  const { offset = 0, sync = true, maxExtents = 1 << 20, signal } = options;
  const { size } = await handle.stat();
  const limit = options.pastEnd === true ? Number.MAX_SAFE_INTEGER : size;
  const end = Math.min(limit, offset + (options.length ?? limit));
  // On a thread of Node's pool: FIEMAP_FLAG_SYNC would wait for the disk on this one, and finds nothing left.
  if (sync) await handle.datasync();
  const extents: PhysicalExtent[] = [];
  sharedArgument ??= Buffer.alloc(headerBytes + extentsPerCall * extentBytes);
  const argument = sharedArgument;
  for (let at = offset; at < end; ) {
    signal?.throwIfAborted();
    argument.fill(0, 0, headerBytes);
    argument.writeBigUInt64LE(BigInt(at), 0); // fm_start
    argument.writeBigUInt64LE(BigInt(end - at), 8); // fm_length
    argument.writeUInt32LE(sync ? FIEMAP_FLAG_SYNC : 0, 16); // fm_flags
    argument.writeUInt32LE(extentsPerCall, 24); // fm_extent_count
    ioctl(handle.fd, FS_IOC_FIEMAP, argument);
    const count = argument.readUInt32LE(20); // fm_mapped_extents
    let last = count === 0;
    for (let i = 0; i < count; i++) {
      const flags = argument.readUInt32LE(headerBytes + i * extentBytes + 40);
      last ||= (flags & FIEMAP_EXTENT_LAST) !== 0;
      const extent = clamp(readExtent(argument, headerBytes + i * extentBytes, flags), at, end);
      if (extent === undefined) continue;
      extents.push(extent);
      at = extent.offset + extent.length;
    }
    if (last || count < extentsPerCall) break;
    if (extents.length > maxExtents) return undefined;
    await setImmediate();
  }
  return extents.length > maxExtents ? undefined : extents;
}

/** struct fiemap_extent: fe_logical, fe_physical, fe_length, two reserved words, fe_flags. */
function readExtent(from: Buffer, at: number, flags: number): PhysicalExtent {
  return {
    offset: Number(from.readBigUInt64LE(at)),
    physical: (flags & withoutAddress) === 0 ? Number(from.readBigUInt64LE(at + 8)) : undefined,
    length: Number(from.readBigUInt64LE(at + 16)),
    unwritten: (flags & FIEMAP_EXTENT_UNWRITTEN) !== 0,
    shared: (flags & FIEMAP_EXTENT_SHARED) !== 0,
  };
}

/** File systems tell whole extents, which may begin before what was asked for and end behind it. */
function clamp(extent: PhysicalExtent, from: number, to: number): PhysicalExtent | undefined {
  const start = Math.max(extent.offset, from);
  const end = Math.min(extent.offset + extent.length, to);
  if (end <= start) return undefined;
  const skipped = start - extent.offset;
  return {
    ...extent,
    offset: start,
    length: end - start,
    physical: extent.physical === undefined ? undefined : extent.physical + skipped,
  };
}
