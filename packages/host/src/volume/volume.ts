import { access, mkdir, readdir, realpath } from "node:fs/promises";
import { join, resolve } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { findProgram } from "../find-program.ts";
import { runProcess } from "../process.ts";
import { installCommand } from "../programs.ts";
import { freeBytes, imageSize, makeImage, mountImage, spareBytesOf, trimImage } from "./image.ts";
import { backingFile, mountAt } from "./mounts.ts";
import { canReflink } from "./reflink.ts";

/** The directory of the store, on the best file system for it that this host has. */
export interface Volume extends AsyncDisposable {
  /** HOME/store. */
  path: string;
  /** native: the home's file system has reflinks. loop: an XFS in HOME/store.img. plain: neither. */
  kind: "native" | "loop" | "plain";
  reflink: boolean;
  /** What people should know about it. */
  notice?: string;
  /** What an image holds of the file system around it, less what counts as used in it; bytes. 0 for others. */
  spareBytes(): Promise<number>;
  /** Gives that back, but for what the file system needs itself. */
  trim(): Promise<void>;
  /**
   * Unmounts what was mounted. While machines that go on running have files open in it, it stays mounted,
   * and the next `openVolume` takes it over.
   */
  close(): Promise<{ unmounted: boolean }>;
}

export interface VolumeOptions {
  /** SPORELET_HOME; created when it does not exist. */
  home: string;
  /** Whether to make and mount an image. Default: true, unless SPORELET_NO_LOOP is 1. */
  loop?: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Opens the store's volume, and makes it the first time.
 *
 * An image that is there is used, whatever else would do: it holds the store. A directory with content stays
 * a directory, which an image would hide. Only with an empty one there is a choice.
 *
 * @throws SporeletError `corrupt` when the image's file system is damaged, `failed_precondition` when there
 *   is an image and this process cannot mount it.
 */
export async function openVolume(options: VolumeOptions): Promise<Volume> {
  const home = resolve(options.home);
  const path = join(home, "store");
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    return await open(path, join(home, "store.img"), options);
  } catch (error) {
    throw SporeletError.from(error, { operation: "open the volume of the store", subject: path });
  }
}

async function open(path: string, image: string, { loop, signal }: VolumeOptions): Promise<Volume> {
  const allowed = loop ?? process.env.SPORELET_NO_LOOP !== "1";
  if (await isMounted(path, image)) return mounted(path, image);
  if (await exists(image)) {
    if (!allowed || process.getuid?.() !== 0) throw cannotMount(image, allowed);
    await mountImage(image, path, signal);
    return mounted(path, image);
  }
  if (await canReflink(path)) return unmounted(path, "native");

  const copies = "disks are copied for each clone, which takes longer and more space";
  const obstacle = allowed ? await whyNoImage(path) : { reason: "SPORELET_NO_LOOP is set" };
  if (obstacle !== undefined) {
    const remedy = obstacle.remedy === undefined ? "" : ` (${obstacle.remedy})`;
    return unmounted(
      path,
      "plain",
      `${copies}: the file system has no reflinks, and ${obstacle.reason}${remedy}`,
    );
  }
  const sizeBytes = imageSize(await freeBytes(path));
  if (sizeBytes === undefined) {
    return unmounted(
      path,
      "plain",
      `${copies}: the file system has no reflinks and is too full for an image`,
    );
  }
  await makeImage(image, sizeBytes, signal);
  await mountImage(image, path, signal);
  const size = `${Math.floor(sizeBytes / 1024 ** 3)} GiB`;
  return mounted(
    path,
    image,
    `made ${image} with an XFS of up to ${size}: the file system around it has no reflinks`,
  );
}

async function whyNoImage(path: string): Promise<{ reason: string; remedy?: string } | undefined> {
  if (process.getuid?.() !== 0) return { reason: "mounting one that has needs root" };
  if ((await findProgram("mkfs.xfs")) === undefined) {
    return { reason: "mkfs.xfs is missing", remedy: installCommand("xfsprogs") };
  }
  if (!(await exists("/dev/loop-control")))
    return { reason: "the kernel has no loop devices", remedy: "modprobe loop" };
  if ((await readdir(path)).length > 0) {
    return { reason: "the store has content already", remedy: "move it away to begin with an image" };
  }
  return undefined;
}

async function isMounted(path: string, image: string): Promise<boolean> {
  const mount = await mountAt(path);
  if (mount === undefined || !mount.source.startsWith("/dev/loop")) return false;
  return (await backingFile(mount.source)) === (await realpath(image).catch(() => undefined));
}

function mounted(path: string, image: string, notice?: string): Volume {
  const close = async () => {
    // 32: mount failure, for umount(8) above all that the target is busy.
    const { code, stderr } = await runProcess(["umount", path], {
      operation: "unmount the store",
      timeoutMs: 60_000,
      ok: [0, 32],
    });
    if (code === 0 || /not mounted/.test(stderr)) return { unmounted: true };
    if (/busy/.test(stderr)) return { unmounted: false };
    throw new SporeletError({
      code: "internal",
      operation: "unmount the store",
      subject: path,
      reason: stderr.trim(),
    });
  };
  const spareBytes = () => spareBytesOf(image, path);
  const trim = () => trimImage(path);
  return volumeOf({ path, kind: "loop", reflink: true }, notice, { close, spareBytes, trim });
}

function unmounted(path: string, kind: "native" | "plain", notice?: string): Volume {
  const nothing = {
    close: async () => ({ unmounted: false }),
    spareBytes: async () => 0,
    trim: async () => {},
  };
  return volumeOf({ path, kind, reflink: kind === "native" }, notice, nothing);
}

function volumeOf(
  facts: Pick<Volume, "path" | "kind" | "reflink">,
  notice: string | undefined,
  actions: Pick<Volume, "close" | "spareBytes" | "trim">,
): Volume {
  const dispose = async () => void (await actions.close());
  return {
    ...facts,
    ...(notice === undefined ? {} : { notice }),
    ...actions,
    [Symbol.asyncDispose]: dispose,
  };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function cannotMount(image: string, allowed: boolean): SporeletError {
  return new SporeletError({
    code: "failed_precondition",
    operation: "mount the store",
    subject: image,
    reason: allowed ? "mounting it needs root" : "SPORELET_NO_LOOP is set",
    hint: allowed
      ? "run as root, or use another SPORELET_HOME"
      : "unset SPORELET_NO_LOOP, or use another SPORELET_HOME",
  });
}
