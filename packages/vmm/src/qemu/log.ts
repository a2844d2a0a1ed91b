import { open } from "node:fs/promises";

/** The last `limitBytes` of a log, whole lines only; empty when there is none. */
export async function logTail(path: string, limitBytes = 4096): Promise<string> {
  try {
    await using file = await open(path, "r");
    const { size } = await file.stat();
    const start = Math.max(0, size - limitBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
    const text = buffer.toString("utf8", 0, bytesRead);
    return (start === 0 ? text : text.slice(text.indexOf("\n") + 1)).trimEnd();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
