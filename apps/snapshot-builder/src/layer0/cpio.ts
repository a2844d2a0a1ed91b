/**
 * Writes cpio archives of the "newc" kind, the only one that the kernel unpacks as an initramfs (Linux:
 * Documentation/driver-api/early-userspace/buffer-format.rst). The same entries give the same bytes: times
 * are zero, owners are root, inode numbers count up, and order is by path, directories before their content.
 */

export type CpioEntry =
  | { path: string; type: "directory"; mode?: number }
  | { path: string; type: "file"; content: Uint8Array; mode?: number }
  | { path: string; type: "symlink"; target: string }
  | { path: string; type: "character-device"; major: number; minor: number; mode?: number };

const typeBits = { directory: 0o040000, file: 0o100000, symlink: 0o120000, "character-device": 0o020000 };
const defaultMode = { directory: 0o755, file: 0o644, symlink: 0o777, "character-device": 0o600 };

/**
 * @param entries paths without a leading slash, each once; parent directories that are not named are added
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const byPath = new Map<string, CpioEntry>();
  for (const entry of entries) {
    if (byPath.has(entry.path)) throw new RangeError(`cpio: ${entry.path} is there twice`);
    byPath.set(entry.path, entry);
  }
  for (const { path } of entries) {
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
      const parent = path.slice(0, at);
      if (!byPath.has(parent)) byPath.set(parent, { path: parent, type: "directory" });
    }
  }
  // A parent's path is a prefix of its children's and so sorts before them.
  const sorted = [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  const parts = sorted.flatMap((entry, index) => member(entry, index + 1));
  parts.push(...member({ path: "TRAILER!!!", type: "file", content: new Uint8Array(), mode: 0 }, 0));
  return Buffer.concat(parts);
}

function member(entry: CpioEntry, inode: number): Uint8Array[] {
  const content =
    entry.type === "file"
      ? entry.content
      : entry.type === "symlink"
        ? Buffer.from(entry.target)
        : new Uint8Array();
  const name = Buffer.from(`${entry.path}\0`);
  const trailer = inode === 0;
  const mode = trailer
    ? 0
    : typeBits[entry.type] | (("mode" in entry ? entry.mode : undefined) ?? defaultMode[entry.type]);
  const links = entry.type === "directory" ? 2 : 1;
  const device = entry.type === "character-device" ? [entry.major, entry.minor] : [0, 0];
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, ...device, name.length, 0];
  const header = Buffer.from(
    `070701${fields.map((n) => n.toString(16).padStart(8, "0").toUpperCase()).join("")}`,
  );
  return [header, name, padding(header.length + name.length), content, padding(content.length)];
}

/** Header with name, and content, each fill whole 4-byte words. */
function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
