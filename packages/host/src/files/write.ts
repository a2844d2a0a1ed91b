import type { FileHandle } from "node:fs/promises";

/** Writes all of a part of a buffer: one write(2) may take less. */
export async function writeFully(
  to: FileHandle,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Promise<void> {
  for (let done = 0; done < length; ) {
    const { bytesWritten } = await to.write(buffer, offset + done, length - done, position + done);
    done += bytesWritten;
  }
}
