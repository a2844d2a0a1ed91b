import { readFile, realpath } from "node:fs/promises";
import { basename } from "node:path";

export interface Mount {
  path: string;
  type: string;
  /** A device such as /dev/loop0. */
  source: string;
}

/** The mounts of /proc/self/mountinfo (proc(5)), in order; later ones lie over earlier ones. */
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split("\n").flatMap((line) => {
    // ID parent major:minor root PATH options [optional...] - TYPE SOURCE superoptions
    const [left, right] = line.split(" - ");
    const [path, type, source] = [left?.split(" ")[4], ...(right?.split(" ") ?? [])];
    return path && type && source ? [{ path: unescapeOctal(path), type, source: unescapeOctal(source) }] : [];
  });
}

/** What is mounted at a directory; undefined when it is not a mount point. */
export async function mountAt(directory: string): Promise<Mount | undefined> {
  const path = await realpath(directory);
  return parseMounts(await readFile("/proc/self/mountinfo", "utf8")).findLast((mount) => mount.path === path);
}

/** The file behind a loop device such as /dev/loop0; undefined for other devices. */
export async function backingFile(device: string): Promise<string | undefined> {
  const text = await readFile(`/sys/block/${basename(device)}/loop/backing_file`, "utf8").catch(
    () => undefined,
  );
  return text?.replace(/\n$/, "");
}

/** mountinfo writes space, tab, line feed and backslash as \ooo. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
