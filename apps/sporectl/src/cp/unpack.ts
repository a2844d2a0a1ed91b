import { Readable } from "node:stream";
import { SporeletError } from "@sporelet/errors";
import { extract, type Header } from "tar-stream";
import { entryRenamer } from "./names.ts";
import { openTree, type Tree } from "./tree.ts";

export interface UnpackOptions {
  /** What the tar's root is called in the directory; undefined: only its contents are unpacked. */
  name: string | undefined;
  /** Keep owners and set-user-id bits; otherwise everything belongs to the caller. */
  archive: boolean;
  signal: AbortSignal;
  /** Told of sockets and devices, which are left out. */
  onSkipped: (name: string) => void;
}

type Entry = Readable & { header: Header };

/**
 * Unpacks a tar below an existing directory. Nothing is written outside of it, whatever the tar holds: see
 * `openTree`.
 */
export async function unpackTree(
  tar: AsyncIterable<Uint8Array>,
  directory: string,
  options: UnpackOptions,
): Promise<void> {
  const rename = entryRenamer(options.name);
  await using tree = await openTree(directory);
  // Modes of directories come last: one that may not be written to can still be filled.
  const directories: { parts: string[]; header: Header }[] = [];
  const stream = extract();
  const source = Readable.from(tar, { objectMode: false, signal: options.signal });
  source.on("error", (error) => stream.destroy(error));
  source.pipe(stream as unknown as NodeJS.WritableStream);
  for await (const entry of stream as unknown as AsyncIterable<Entry>) {
    options.signal.throwIfAborted();
    const { header } = entry;
    const name = rename(header.name);
    if (name === undefined) {
      entry.resume();
      continue;
    }
    const parts = name.split("/");
    try {
      if (header.type === "directory") directories.push({ parts, header });
      await unpackEntry(tree, parts, entry, rename, options);
    } catch (error) {
      // Its path is that of an open directory in /proc: it tells a person nothing.
      if (error instanceof Error && "path" in error) {
        delete error.path;
        error.message = error.message.replace(/, \w+ '\/proc\/.*/, "");
      }
      throw SporeletError.from(error, { operation: "write", subject: `${directory}/${name}` });
    }
  }
  for (const { parts, header } of directories.reverse())
    await tree.finishDirectory(parts, attributesOf(header, options));
}

async function unpackEntry(
  tree: Tree,
  parts: string[],
  entry: Entry,
  rename: (name: string) => string | undefined,
  options: UnpackOptions,
): Promise<void> {
  const { header } = entry;
  switch (header.type) {
    case "file":
    case "contiguous-file":
      await tree.writeFile(parts, entry, attributesOf(header, options));
      return;
    case "directory":
      await tree.makeDirectory(parts);
      break;
    case "symlink":
      await tree.makeSymlink(parts, header.linkname ?? "", attributesOf(header, options));
      break;
    case "link":
      await tree.makeLink(parts, (rename(header.linkname ?? "") ?? "").split("/"));
      break;
    default:
      options.onSkipped(parts.join("/"));
  }
  entry.resume();
}

function attributesOf(header: Header, { archive }: UnpackOptions) {
  return {
    mode: (header.mode ?? 0o644) & (archive ? 0o7777 : 0o1777),
    mtime: header.mtime ?? new Date(0),
    ...(archive && { owner: { uid: header.uid ?? 0, gid: header.gid ?? 0 } }),
  };
}
