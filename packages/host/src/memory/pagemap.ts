import { type FileHandle, open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { pageBytes } from "../files/pages.ts";
import { scanPrivatePages } from "./pagemap-scan.ts";
import { appendRun, type MappedRegion } from "./runs.ts";

const entryBytes = 8;
/** Entries for 512 MiB of address space: 1 MiB at a time. */
const batchEntries = 128 * 1024;

// Upper half of a pagemap entry (Documentation/admin-guide/mm/pagemap.rst): bit 63 present, 62 swapped,
// 61 page of a file or shared anonymous.
const presentOrSwapped = 0xc0000000;
const ofFile = 0x20000000;

/**
 * The pages of private file mappings that the process has made its own by writing to them: anonymous pages,
 * present or swapped out. Everything else in such a mapping is still what the file holds. The process should
 * be paused, or the answer is out of date at once.
 *
 * The kernel's PAGEMAP_SCAN (Linux 6.7) is used where it exists, otherwise /proc/PID/pagemap is read.
 *
 * @param regions page-aligned; each is looked at on its own, in the order given.
 * @returns runs of adjoining pages with their offsets in the mapped file.
 */
export async function privatePageRuns(
  pid: number,
  regions: readonly MappedRegion[],
  method?: "scan" | "read",
): Promise<MappedRegion[]> {
  const context = { operation: "find the changed pages of process", subject: String(pid) };
  try {
    await using pagemap = await open(`/proc/${pid}/pagemap`, "r");
    if (method !== "read") {
      try {
        return scanPrivatePages(pagemap.fd, regions);
      } catch (error) {
        // ENOTTY: the kernel has no such ioctl on this file. EINVAL: not with these categories.
        const { code } = error as NodeJS.ErrnoException;
        if (method === "scan" || (code !== "ENOTTY" && code !== "EINVAL")) throw error;
      }
    }
    return await readPrivatePages(pagemap, regions);
  } catch (error) {
    throw SporeletError.from(error, context);
  }
}

async function readPrivatePages(
  pagemap: FileHandle,
  regions: readonly MappedRegion[],
): Promise<MappedRegion[]> {
  const runs: MappedRegion[] = [];
  const entries = Buffer.allocUnsafeSlow(batchEntries * entryBytes);
  const halves = new Uint32Array(entries.buffer, 0, batchEntries * 2);
  for (const region of regions) {
    for (let done = 0; done < region.bytes; ) {
      const address = region.address + done;
      const wanted = Math.min(batchEntries, (region.bytes - done) / pageBytes);
      const position = (address / pageBytes) * entryBytes;
      const { bytesRead } = await pagemap.read(entries, 0, wanted * entryBytes, position);
      if (bytesRead === 0) break; // Beyond the address space, or the process has ended.
      const count = bytesRead / entryBytes;
      for (let i = 0; i < count; i++) {
        const high = halves[2 * i + 1] ?? 0; // Little endian: the upper half comes second.
        if ((high & ofFile) === 0 && (high & presentOrSwapped) !== 0) {
          appendRun(runs, address + i * pageBytes, pageBytes, region.offset + done + i * pageBytes);
        }
      }
      done += count * pageBytes;
    }
  }
  return runs;
}
