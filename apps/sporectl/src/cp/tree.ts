import { constants } from "node:fs";
import {
  type FileHandle,
  lchown,
  link,
  lutimes,
  mkdir,
  open,
  rm,
  symlink,
  unlink,
  writeFile,
} from "node:fs/promises";
import path from "node:path";
import type { Readable } from "node:stream";
import { SporeletError } from "@sporelet/errors";

interface Attributes {
  mode: number;
  mtime: Date;
  owner?: { uid: number; gid: number };
}

/**
 * Writes below one directory, and never outside of it. Each component of a path is opened from the open
 * directory before it (through /proc/self/fd, proc(5)) and is never followed where it is a symbolic link, so
 * neither a link in the tar nor one that stands there already leads away. Paths are lists of components
 * without `.` and `..`.
 */
export interface Tree extends AsyncDisposable {
  writeFile(parts: string[], content: Readable, attributes: Attributes): Promise<void>;
  makeDirectory(parts: string[]): Promise<void>;
  makeSymlink(parts: string[], target: string, attributes: Attributes): Promise<void>;
  /** A hard link to an entry that was unpacked before. */
  makeLink(parts: string[], target: string[]): Promise<void>;
  finishDirectory(parts: string[], attributes: Attributes): Promise<void>;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;

export async function openTree(directory: string): Promise<Tree> {
  const root = await open(directory, O_RDONLY | O_DIRECTORY);
  // The open directories on the way to the last entry: the next one mostly lies beside it.
  const way: { part: string; handle: FileHandle }[] = [];

  const leaveTo = async (depth: number) => {
    const left = way.splice(depth);
    for (const { handle } of left.reverse()) await handle.close();
  };
  /** Path of the entry through its open parent directory. Missing directories are made. */
  const at = async (parts: string[]): Promise<string> => {
    const parents = parts.slice(0, -1);
    let shared = 0;
    while (shared < parents.length && way[shared]?.part === parents[shared]) shared += 1;
    await leaveTo(shared);
    for (const part of parents.slice(shared)) {
      const child = below(way.at(-1)?.handle ?? root, part);
      await mkdir(child, 0o755).catch(unlessExists);
      way.push({ part, handle: await openDirectory(child, parts) });
    }
    return below(way.at(-1)?.handle ?? root, parts.at(-1) ?? "");
  };
  const replaceable = async (place: string, parts: string[]) => {
    await unlink(place).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EISDIR")
        throw conflict(parts, "a file or a link is to go where a directory is", "remove it first", error);
      if (error.code !== "ENOENT") throw error;
    });
  };

  return {
    async writeFile(parts, content, attributes) {
      const place = await at(parts);
      await replaceable(place, parts);
      const file = await open(place, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      try {
        await writeFile(file, content);
        if (attributes.owner) await file.chown(attributes.owner.uid, attributes.owner.gid);
        await file.chmod(attributes.mode);
        await file.utimes(attributes.mtime, attributes.mtime);
      } catch (error) {
        await rm(place, { force: true });
        throw error;
      } finally {
        await file.close();
      }
    },
    async makeDirectory(parts) {
      const place = await at(parts);
      await mkdir(place, 0o700).catch(unlessExists);
      await (await openDirectory(place, parts)).close();
    },
    async makeSymlink(parts, target, attributes) {
      const place = await at(parts);
      await replaceable(place, parts);
      await symlink(target, place);
      if (attributes.owner) await lchown(place, attributes.owner.uid, attributes.owner.gid);
      await lutimes(place, attributes.mtime, attributes.mtime);
    },
    async makeLink(parts, target) {
      // Held open by itself: finding the new name may leave the way to the old one.
      const from = await open(`${path.dirname(await at(target))}/`, O_RDONLY | O_DIRECTORY);
      try {
        const to = await at(parts);
        await replaceable(to, parts);
        await link(below(from, target.at(-1) ?? ""), to);
      } finally {
        await from.close();
      }
    },
    async finishDirectory(parts, attributes) {
      const handle = await openDirectory(await at(parts), parts);
      try {
        if (attributes.owner) await handle.chown(attributes.owner.uid, attributes.owner.gid);
        await handle.chmod(attributes.mode);
        await handle.utimes(attributes.mtime, attributes.mtime);
      } finally {
        await handle.close();
      }
    },
    async [Symbol.asyncDispose]() {
      await leaveTo(0);
      await root.close();
    },
  };
}

function below(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`;
}

async function openDirectory(place: string, parts: string[]): Promise<FileHandle> {
  try {
    return await open(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTDIR" && code !== "ELOOP") throw error;
    const hint = "remove it first; links are not followed, so that nothing lands outside of the target";
    throw conflict(parts, "a directory is to go where a file or a symbolic link is", hint, error);
  }
}

function conflict(parts: string[], reason: string, hint: string, cause: unknown): SporeletError {
  return new SporeletError({
    code: "failed_precondition",
    operation: "unpack",
    subject: parts.join("/"),
    ...{ reason, hint, cause },
  });
}

function unlessExists(error: NodeJS.ErrnoException): void {
  if (error.code !== "EEXIST") throw error;
}
