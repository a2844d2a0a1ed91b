import { createReadStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { SporeletError } from "@sporelet/errors";
import { type Header, type Pack, pack } from "tar-stream";

export interface PackOptions {
  /** What the root is called in the tar; undefined: only its contents are packed. */
  name: string | undefined;
  /** Keep owners and set-user-id bits; otherwise everything belongs to root. */
  archive: boolean;
  signal: AbortSignal;
  /** Told of sockets and devices, which are left out. */
  onSkipped: (file: string) => void;
}

type HeaderOf = Partial<Header> & Pick<Header, "name">;

/** A tar of a file or a directory tree of this host, in the order of names. Symbolic links stay links. */
export function packTree(root: string, options: PackOptions): AsyncIterable<Uint8Array> {
  const stream = pack();
  const filled =
    options.name === undefined
      ? addChildren(stream, root, "", options)
      : addEntry(stream, root, options.name, options);
  filled.then(
    () => stream.finalize(),
    (error) => stream.destroy(error as Error),
  );
  return stream as unknown as AsyncIterable<Uint8Array>;
}

async function addChildren(
  stream: Pack,
  directory: string,
  name: string,
  options: PackOptions,
): Promise<void> {
  const children = await readdir(directory).catch((error) => {
    throw SporeletError.from(error, { operation: "read", subject: directory });
  });
  for (const child of children.sort()) {
    await addEntry(stream, path.join(directory, child), name === "" ? child : `${name}/${child}`, options);
  }
}

async function addEntry(stream: Pack, file: string, name: string, options: PackOptions): Promise<void> {
  options.signal.throwIfAborted();
  const stats = await lstat(file);
  const owner = options.archive ? { uid: stats.uid, gid: stats.gid } : { uid: 0, gid: 0 };
  const header: HeaderOf = {
    name,
    mode: stats.mode & (options.archive ? 0o7777 : 0o1777),
    mtime: stats.mtime,
    ...owner,
  };
  if (stats.isSymbolicLink()) {
    await writeHeader(stream, { ...header, type: "symlink", linkname: await readlink(file), size: 0 });
  } else if (stats.isDirectory()) {
    await writeHeader(stream, { ...header, name: `${name}/`, type: "directory", size: 0 });
    await addChildren(stream, file, name, options);
  } else if (stats.isFile()) {
    const entry = stream.entry({ ...header, type: "file", size: stats.size });
    // A file that grows meanwhile is cut at the size that the header says; one that shrinks is an error.
    const content =
      stats.size === 0
        ? []
        : createReadStream(file, { start: 0, end: stats.size - 1, highWaterMark: 1 << 18 });
    try {
      await pipeline(content, entry as unknown as NodeJS.WritableStream, { signal: options.signal });
    } catch (error) {
      throw SporeletError.from(error, { operation: "read", subject: file });
    }
  } else {
    options.onSkipped(file);
  }
}

function writeHeader(stream: Pack, header: HeaderOf): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.entry(header, (error) => (error ? reject(error) : resolve()));
  });
}
