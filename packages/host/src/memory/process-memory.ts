import { readSync, writeSync } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { nonZeroRuns } from "../files/pages.ts";
import { writeFully } from "../files/write.ts";
import { punchHole } from "../syscalls.ts";
import type { MappedRegion } from "./runs.ts";

/**
 * Fills the buffer from a process's memory (/proc/PID/mem, proc(5)); needs the rights of ptrace(2) over it.
 *
 * @throws SporeletError when the process is gone or a part of the range is not mapped.
 */
export async function readProcessMemory(pid: number, address: number, buffer: Uint8Array): Promise<void> {
  try {
    await using memory = await open(`/proc/${pid}/mem`, "r");
    readRange(memory.fd, address, buffer, 0, buffer.length);
  } catch (error) {
    throw SporeletError.from(error, { operation: "read the memory of process", subject: String(pid) });
  }
}

const batchBytes = 4 * 1024 * 1024;
const shortBytes = 64 * 1024;

/**
 * Copies stretches of a process's memory to their offsets in a file, which has to be large enough or grows.
 * Pages of zeros become holes, whatever the file held there before.
 *
 * @param runs in order of offsets, as `privatePageRuns` returns them.
 * @returns the number of bytes copied.
 */
export async function copyProcessMemory(
  pid: number,
  runs: readonly MappedRegion[],
  target: string | FileHandle,
  signal?: AbortSignal,
): Promise<number> {
  try {
    await using memory = await open(`/proc/${pid}/mem`, "r");
    if (typeof target !== "string") return await copyRuns(memory.fd, runs, target, signal);
    await using handle = await open(target, "r+");
    return await copyRuns(memory.fd, runs, handle, signal);
  } catch (error) {
    throw SporeletError.from(error, { operation: "copy the memory of process", subject: String(pid) });
  }
}

async function copyRuns(
  fd: number,
  runs: readonly MappedRegion[],
  to: FileHandle,
  signal?: AbortSignal,
): Promise<number> {
  const buffer = Buffer.allocUnsafe(batchBytes);
  let copied = 0;
  for (const { address, bytes, offset } of runs) {
    for (let done = 0; done < bytes; ) {
      signal?.throwIfAborted();
      const length = Math.min(batchBytes, bytes - done);
      readRange(fd, address + done, buffer, 0, length);
      let end = 0;
      for (const run of [...nonZeroRuns(buffer, length), { offset: length, length: 0 }]) {
        if (run.offset > end) await clear(to, buffer, end, run.offset - end, offset + done + end);
        if (run.length > 0) await write(to, buffer, run.offset, run.length, offset + done + run.offset);
        end = run.offset + run.length;
      }
      done += length;
    }
    copied += bytes;
  }
  return copied;
}

async function write(to: FileHandle, buffer: Buffer, start: number, length: number, position: number) {
  // Memory to page cache takes microseconds; for a short run a trip through the thread pool takes longer.
  const written = length <= shortBytes ? writeSync(to.fd, buffer, start, length, position) : 0;
  if (written < length) await writeFully(to, buffer, start + written, length - written, position + written);
}

/** Makes a hole, or where the file system cannot, writes the zeros that the buffer holds at `start`. */
async function clear(to: FileHandle, buffer: Buffer, start: number, length: number, position: number) {
  try {
    punchHole(to.fd, position, length);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EOPNOTSUPP") throw error;
    await write(to, buffer, start, length, position);
  }
}

function readRange(fd: number, address: number, buffer: Uint8Array, start: number, length: number): void {
  for (let done = 0; done < length; ) {
    const bytesRead = readSync(fd, buffer, start + done, length - done, address + done);
    // The memory of a process that has ended reads as empty.
    if (bytesRead === 0) throw new Error(`nothing to read at address 0x${(address + done).toString(16)}`);
    done += bytesRead;
  }
}

export interface MemoryUse {
  /** Resident set: all pages that are mapped. */
  rssBytes: number;
  /** Proportional set: each page divided by the number of processes that share it. The figure for density. */
  pssBytes: number;
  /** Pages that this process alone maps. */
  privateBytes: number;
}

/** What a process takes of the host's memory (/proc/PID/smaps_rollup, Linux 4.14). */
export async function memoryUse(pid: number): Promise<MemoryUse> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  } catch (error) {
    throw SporeletError.from(error, { operation: "read the memory use of process", subject: String(pid) });
  }
  const bytesOf = (name: string) =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
  return {
    rssBytes: bytesOf("Rss"),
    pssBytes: bytesOf("Pss"),
    privateBytes: bytesOf("Private_Clean") + bytesOf("Private_Dirty") + bytesOf("Private_Hugetlb"),
  };
}
