import { addressOf, ioctl } from "../syscalls.ts";
import { appendRun, type MappedRegion } from "./runs.ts";

/** _IOWR('f', 16, struct pm_scan_arg) of include/uapi/linux/fs.h, Linux 6.7; the structure has 96 bytes. */
const PAGEMAP_SCAN = 0xc0606610;
const argumentBytes = 96;
// enum: page categories of the same header.
const PAGE_IS_FILE = 1n << 2n;
const PAGE_IS_PRESENT = 1n << 3n;
const PAGE_IS_SWAPPED = 1n << 4n;

/** struct page_region: start, end, categories. */
const regionBytes = 24;
const regionCount = 16 * 1024;

/**
 * Anonymous pages, present or swapped, by one ioctl for each 16,384 runs. The kernel skips what is not
 * mapped, so the cost follows the pages that are there and not the size of the regions.
 *
 * @param pagemap file descriptor of /proc/PID/pagemap.
 * @throws an error with the code ENOTTY on kernels without it.
 */
export function scanPrivatePages(pagemap: number, regions: readonly MappedRegion[]): MappedRegion[] {
  const runs: MappedRegion[] = [];
  const found = Buffer.allocUnsafeSlow(regionCount * regionBytes);
  const argument = Buffer.alloc(argumentBytes);
  for (const region of regions) {
    const end = region.address + region.bytes;
    for (let start = region.address; start < end; ) {
      writeArgument(argument, start, end, found);
      const count = ioctl(pagemap, PAGEMAP_SCAN, argument);
      for (let i = 0; i < count; i++) {
        const from = Number(found.readBigUInt64LE(i * regionBytes));
        const to = Number(found.readBigUInt64LE(i * regionBytes + 8));
        appendRun(runs, from, to - from, region.offset + (from - region.address));
      }
      const walkEnd = Number(argument.readBigUInt64LE(32));
      if (walkEnd <= start) break; // Nothing is left to walk.
      start = walkEnd;
    }
  }
  return runs;
}

function writeArgument(argument: Buffer, start: number, end: number, found: Buffer): void {
  const fields = [
    BigInt(argumentBytes), // size
    0n, // flags: only look
    BigInt(start),
    BigInt(end),
    0n, // walk_end, written by the kernel
    addressOf(found), // vec
    BigInt(regionCount), // vec_len
    0n, // max_pages: no limit
    PAGE_IS_FILE, // category_inverted: the mask below asks for pages that are not a file's
    PAGE_IS_FILE, // category_mask: all of these
    PAGE_IS_PRESENT | PAGE_IS_SWAPPED, // category_anyof_mask: at least one of these
    PAGE_IS_FILE, // return_mask: the same for all pages found, so that runs are not split by other categories
  ];
  fields.forEach((field, i) => {
    argument.writeBigUInt64LE(field, i * 8);
  });
}
