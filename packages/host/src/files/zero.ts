import type { FileHandle } from "node:fs/promises";
import { punchHole } from "../syscalls.ts";
import type { Extent } from "./pages.ts";
import { writeFully } from "./write.ts";

const blockBytes = 1024 * 1024;

/** Makes a stretch of a file read as zeros: a hole, or where the file system has none zeros. */
export async function zeroRange(handle: FileHandle, { offset, length }: Extent): Promise<void> {
  try {
    punchHole(handle.fd, offset, length);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EOPNOTSUPP") throw error;
    const zeros = Buffer.alloc(Math.min(length, blockBytes));
    for (let done = 0; done < length; done += zeros.length) {
      await writeFully(handle, zeros, 0, Math.min(zeros.length, length - done), offset + done);
    }
  }
}
