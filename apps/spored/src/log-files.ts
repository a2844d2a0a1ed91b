import { watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

const blockBytes = 64 * 1024;

/** The last lines of a text file, all of it when it has fewer; "" when there is no such file. */
export async function tailOfFile(path: string, lines: number): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of readLog(path, { tail: lines, follow: false })) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

export interface ReadLogOptions {
  /** Last lines only; 0: everything. */
  tail: number;
  /** Go on with what is written, until `signal` aborts. */
  follow: boolean;
  signal?: AbortSignal;
}

/**
 * Reads a log that others append to. Follows it by inotify; when `signal` aborts what is there by then is
 * read to its end. A log that does not exist is empty.
 */
export async function* readLog(path: string, options: ReadLogOptions): AsyncGenerator<Buffer> {
  const { tail, follow, signal } = options;
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  await using _file = file;
  let offset = tail === 0 ? 0 : await tailOffset(file, (await file.stat()).size, tail);
  // Watching begins before the first reading, so that nothing written in between is missed.
  using changes = follow ? watchChanges(path, signal) : undefined;
  for (;;) {
    const over = changes === undefined || changes.over();
    for (;;) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(blockBytes), 0, blockBytes, offset);
      if (bytesRead === 0) break;
      offset += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
    if (over) return;
    await changes.next();
  }
}

/** Where the last `lines` lines of a file of `size` bytes begin, found from its end. */
async function tailOffset(file: FileHandle, size: number, lines: number): Promise<number> {
  let found = 0;
  for (let end = size; end > 0; end -= blockBytes) {
    const start = Math.max(0, end - blockBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    for (let at = bytesRead - 1; at >= 0; at--) {
      // A line feed at the very end closes the last line; it does not begin another.
      if (buffer[at] !== 10 || start + at === size - 1) continue;
      found += 1;
      if (found === lines) return start + at + 1;
    }
  }
  return 0;
}

function watchChanges(path: string, signal: AbortSignal | undefined) {
  let changed = false;
  let wake = () => {};
  const notice = () => {
    changed = true;
    wake();
  };
  const watcher = watch(path, notice);
  watcher.on("error", notice);
  signal?.addEventListener("abort", notice, { once: true });
  return {
    over: () => signal?.aborted ?? false,
    async next() {
      if (!changed) await new Promise<void>((resolve) => (wake = resolve));
      changed = false;
    },
    [Symbol.dispose]() {
      watcher.close();
      signal?.removeEventListener("abort", notice);
    },
  };
}
