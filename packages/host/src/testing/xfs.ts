import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { runProcess } from "../process.ts";
import { temporaryDirectory } from "./directory.ts";

/** mkfs.xfs of xfsprogs 5.19 and later makes nothing smaller. */
const smallestBytes = 300 * 1024 * 1024;

/** Why tests cannot mount a file system here; undefined when they can. */
export function whyNoMounts(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "mounting a file system needs root";
}

/** An XFS with reflinks, on a loop device, that is unmounted when it goes out of scope. */
export async function mountXfs(
  options: { sizeBytes?: number; reflink?: boolean } = {},
): Promise<{ path: string } & AsyncDisposable> {
  const { sizeBytes = smallestBytes, reflink = true } = options;
  await using cleanup = new AsyncDisposableStack();
  const directory = cleanup.use(await temporaryDirectory());
  const operation = "mount a file system for a test";
  const image = join(directory.path, "xfs.img");
  const path = join(directory.path, "mnt");
  await mkdir(path);
  await using handle = await open(image, "wx");
  await handle.truncate(sizeBytes);
  await runProcess(["mkfs.xfs", "-q", "-m", `reflink=${reflink ? 1 : 0}`, image], { operation });
  await runProcess(["mount", "-o", "loop", image, path], { operation });
  // The loop device detaches itself with the mount (autoclear).
  cleanup.defer(async () => {
    await runProcess(["umount", path], { operation: "unmount a test's file system" });
  });
  const owned = cleanup.move();
  return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
