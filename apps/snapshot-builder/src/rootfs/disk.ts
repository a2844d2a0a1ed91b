/** ext4 images filled from a directory, without mounting anything. */
import { rm, stat, truncate, writeFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { punchZeroPages, runProcess } from "@sporelet/host";

export interface DiskOptions {
  /** Whole file system, a multiple of 1 MiB. */
  sizeBytes: number;
  label: string;
  /** False for a disk that is only ever read. Default: true. */
  journal?: boolean;
  signal?: AbortSignal | undefined;
}

/** Enough for a machine of few writers, and small enough not to weigh in every clone's disk. */
const journalMiB = 16;
/** One for all: nothing looks a Sporelet disk up by it, and the same content gives the same image. */
const uuid = "5b0e1e77-0000-4000-8000-000000000000";

/**
 * Writes a sparse ext4 image with the content of a directory.
 *
 * A journal is kept although clones are thrown away: a snapshot's disk is that of a running machine, and
 * `sporectl boot` mounts it as after a power cut. Nothing is reserved for root, and no table is left for the
 * guest kernel to initialise in the background: the file's holes are zeros already.
 *
 * @throws SporeletError `resource_exhausted` when the content does not fit
 */
export async function writeDisk(root: string, target: string, options: DiskOptions): Promise<void> {
  const { sizeBytes, label, journal = true, signal } = options;
  await writeFile(target, "");
  await truncate(target, sizeBytes);
  const argv = [
    ...["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-L", label, "-U", uuid, "-m", "0", "-b", "4096"],
    ...(journal ? ["-J", `size=${journalMiB}`] : ["-O", "^has_journal"]),
    ...["-E", `assume_storage_prezeroed=1,nodiscard,root_owner=0:0,hash_seed=${uuid}`],
    target,
  ];
  try {
    await runProcess(argv, {
      operation: "make a disk image",
      env: { ...process.env, E2FSPROGS_FAKE_TIME: "1" },
      signal,
      timeoutMs: 600_000,
    });
  } catch (error) {
    await rm(target, { force: true });
    throw tooSmall(error, sizeBytes) ?? error;
  }
  await punchZeroPages(target, signal);
}

/** Grows an image and the file system in it, which nobody uses. Cheap: nothing is moved. */
export async function growDisk(
  path: string,
  sizeBytes: number,
  signal?: AbortSignal | undefined,
): Promise<void> {
  if ((await stat(path)).size >= sizeBytes) return;
  await truncate(path, sizeBytes);
  const argv = ["resize2fs", "-f", path];
  await runProcess(argv, { operation: "grow a disk image", signal, timeoutMs: 300_000 });
}

/** libext2fs: "Could not allocate block in ext2 filesystem", "Could not allocate inode…". */
function tooSmall(error: unknown, sizeBytes: number): SporeletError | undefined {
  if (
    !(error instanceof SporeletError) ||
    !/Could not allocate|No free space|not enough space/i.test(error.log ?? "")
  ) {
    return undefined;
  }
  return new SporeletError({
    code: "resource_exhausted",
    operation: "make a disk image",
    reason: `its content does not fit on a disk of ${sizeBytes / 1024 ** 2} MiB`,
    hint: "give the machine a larger disk in sporelet.yaml (machine: disk)",
    log: error.log,
    cause: error,
  });
}
