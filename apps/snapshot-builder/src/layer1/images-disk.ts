/** The machine's disk with the project's images in dockerd's own storage: dockerd itself puts them there. */
import { mkdir, rm, stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { agentGuest } from "@sporelet/compose-preheater";
import { SporeletError } from "@sporelet/errors";
import { cloneFile, punchZeroPages } from "@sporelet/host";
import { cacheKey } from "@sporelet/store";
import type { Accelerator, Vmm } from "@sporelet/vmm";
import type { Step } from "../events.ts";
import type { BuiltImage } from "../images/build.ts";
import type { Layer0 } from "../layer0/build.ts";
import { growDisk, writeDisk } from "../rootfs/disk.ts";
import { bootGuest } from "../vm/guest-machine.ts";

export interface ImagesDiskOptions {
  vmm: Vmm;
  accelerator: Accelerator;
  layer0: Layer0;
  /** Disk with the root file system; it is copied. */
  rootfs: string;
  diskBytes: number;
  images: readonly Pick<BuiltImage, "name" | "archive">[];
  runtimeDirectory: string;
  step: Step;
  signal: AbortSignal;
}

const MiB = 1024 ** 2;
/** dockerd unpacks one layer after the other; this is plenty, and does not depend on the project's machine. */
const memoryBytes = 1024 * MiB;
const loadTimeoutMs = 1_200_000;
const format = 1;

/** All that the disk depends on. The agent and the kernel work on it, but leave nothing of theirs there. */
export function imagesDiskKey(
  rootfs: string,
  diskBytes: number,
  images: readonly Pick<BuiltImage, "name" | "key">[],
): string {
  return cacheKey(
    "images",
    format,
    rootfs,
    diskBytes,
    [...images].map(({ name, key }) => `${name} ${key}`).sort(),
  );
}

/** Writes `disk` into `directory`. */
export async function buildImagesDisk(directory: string, options: ImagesDiskOptions): Promise<void> {
  const { images, step, signal } = options;
  const disk = join(directory, "disk");
  const media = join(directory, "media");
  try {
    await cloneFile(options.rootfs, disk, { signal });
    await growDisk(disk, options.diskBytes, signal);
    await writeMedia(images, directory, media, signal);
    await using guest = await bootGuest({
      vmm: options.vmm,
      layer0: options.layer0,
      disks: [{ path: disk }, { path: media, readOnly: true }],
      shape: { cpus: Math.min(2, availableParallelism()), memoryBytes, accelerator: options.accelerator },
      memory: join(directory, "memory"),
      scratch: directory,
      runtimeDirectory: options.runtimeDirectory,
      signal,
    });
    step.progress(0.2, "waiting for dockerd");
    await guest.serviceReady("dockerd", signal);
    const { exec } = agentGuest(guest.client);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(loadTimeoutMs)]);
    const run = async (argv: string[], subject: string) => {
      const { code, stdout, stderr } = await exec(argv, {
        signal: limit,
        onLine: (_, line) => step.log(line),
      });
      if (code !== 0) throw loadFailed(subject, code, stderr || stdout);
    };
    await run(["mount", "-o", "ro", "/dev/vdb", "/mnt"], "the images' disk");
    for (const [index, { name }] of images.entries()) {
      step.progress(0.3 + (0.6 * index) / images.length, `loading ${name}`);
      await run(["docker", "load", "--quiet", "--input", `/mnt/${index}.tar`], name);
    }
    await run(["umount", "/mnt"], "the images' disk");
    step.progress(0.9, "shutting down");
    // What was written and removed again would otherwise stay in the image as data.
    await run(["fstrim", "/"], "the disk");
    await guest.shutdown(signal);
    await punchZeroPages(disk, signal);
  } finally {
    for (const name of ["media", "memory"]) await rm(join(directory, name), { force: true });
  }
}

/** A read-only disk with the archives, numbered: names of images are no file names. */
async function writeMedia(
  images: ImagesDiskOptions["images"],
  scratch: string,
  target: string,
  signal: AbortSignal,
): Promise<void> {
  const directory = join(scratch, "media.d");
  await mkdir(directory);
  try {
    let bytes = 0;
    for (const [index, { archive }] of images.entries()) {
      const path = join(directory, `${index}.tar`);
      await cloneFile(archive, path, { signal });
      bytes += (await stat(path)).size;
    }
    // Inode tables and block maps take a few percent; holes cost nothing.
    const sizeBytes = Math.ceil((bytes * 1.1) / MiB + 32) * MiB;
    await writeDisk(directory, target, { sizeBytes, label: "images", journal: false, signal });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function loadFailed(subject: string, code: number, log: string): SporeletError {
  const full = /no space left on device/i.test(log);
  return new SporeletError({
    code: full ? "resource_exhausted" : "guest_failed",
    operation: "load the image",
    subject,
    reason: full ? "the machine's disk is full" : `docker load exited with code ${code}`,
    hint: full ? "give it a larger one in sporelet.yaml (machine: disk)" : undefined,
    log,
  });
}
