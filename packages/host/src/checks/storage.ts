import { access, realpath, statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { findProgram } from "../find-program.ts";
import { installCommand } from "../programs.ts";
import { canReflink } from "../volume/reflink.ts";
import { type Check, degraded, missing, ok, readableBytes } from "./check.ts";

const GiB = 1024 ** 3;
/** A Layer 1 build keeps a root file system, a disk, and a memory image beside each other. */
const comfortableBytes = 10 * GiB;
const leastBytes = 3 * GiB;

export async function storageChecks(store: string): Promise<Check[]> {
  const directory = await existing(resolve(store));
  return [await reflinkCheck(directory), await spaceCheck(directory), await loopCheck()];
}

async function reflinkCheck(directory: string): Promise<Check> {
  const [id, title] = ["reflink", "Reflinks for clones' disks"];
  const works = await canReflink(directory).catch(() => undefined);
  if (works) return ok(id, title, `work in ${directory}`);
  if (works === undefined) {
    return degraded(id, title, `${directory} cannot be written to`, "run as root, or set SPORELET_HOME");
  }
  const finding = `the file system of ${directory} has none`;
  if (process.getuid?.() !== 0) {
    const remedy = "run spored as root, which makes an XFS image, or put SPORELET_HOME on XFS or Btrfs";
    return degraded(id, title, `${finding}: disks are copied`, remedy);
  }
  return (await findProgram("mkfs.xfs")) === undefined
    ? degraded(id, title, `${finding}: disks are copied`, installCommand("xfsprogs"))
    : ok(id, title, `${finding}; spored mounts an XFS image that has`);
}

async function spaceCheck(directory: string): Promise<Check> {
  const [id, title] = ["space", "Free disk space"];
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  const finding = `${readableBytes(free)} in ${directory}`;
  if (free >= comfortableBytes) return ok(id, title, finding);
  const remedy = `free some space, or set SPORELET_HOME to a directory with ${readableBytes(comfortableBytes)}`;
  return free >= leastBytes ? degraded(id, title, finding, remedy) : missing(id, title, finding, remedy);
}

async function loopCheck(): Promise<Check> {
  const [id, title] = ["loop", "Loop devices and XFS tools"];
  if (process.getuid?.() !== 0) return degraded(id, title, "need root", "run spored as root");
  const control = await access("/dev/loop-control").then(
    () => true,
    () => false,
  );
  if (!control) return degraded(id, title, "the kernel offers no loop devices", "modprobe loop");
  for (const [program, name] of [
    ["losetup", "mount"],
    ["mkfs.xfs", "xfsprogs"],
  ] as const) {
    if ((await findProgram(program)) === undefined) {
      return degraded(id, title, `${program} is not installed`, installCommand(name));
    }
  }
  return ok(id, title, "usable");
}

/** The directory itself, or the nearest one above it that exists. */
async function existing(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const found = await realpath(at).catch(() => undefined);
    if (found !== undefined) return found;
    if (at === "/") return at;
  }
}
