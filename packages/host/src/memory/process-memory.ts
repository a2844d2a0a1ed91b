import { readSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";

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

/** Fills a part of the buffer from /proc/PID/mem, which is open as `fd`. Blocks. */
export function readRange(
  fd: number,
  address: number,
  buffer: Uint8Array,
  start: number,
  length: number,
): void {
  for (let done = 0; done < length; ) {
    const bytesRead = readSync(fd, buffer, start + done, length - done, address + done);
    // The memory of a process that has ended reads as empty.
    if (bytesRead === 0) {
      const operation = "read the memory of a process";
      throw new SporeletError({ code: "unavailable", operation, reason: "the process has ended" });
    }
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
