/** The root file system of Layer 1: Debian with containerd, dockerd and docker-compose, as a disk image. */
import { cp, mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { runProcess } from "@sporelet/host";
import { cacheKey } from "@sporelet/store";
import { bootstrap } from "../debian/mmdebstrap.ts";
import { suite } from "../debian/sources.ts";
import type { Step } from "../events.ts";
import type { Layer0 } from "../layer0/build.ts";
import { minDiskBytes } from "../project/config.ts";
import {
  moduleDirectories,
  rootfsDirectories,
  rootfsExclude,
  rootfsFiles,
  rootfsPackages,
} from "./content.ts";
import { writeDisk } from "./disk.ts";

export interface RootfsOptions {
  layer0: Pick<Layer0, "release" | "modulesDirectory">;
  step: Step;
  signal?: AbortSignal | undefined;
}

/** Raised when the result changes without any of the inputs below changing. */
const format = 1;

/**
 * All that the root file system depends on: no Compose file, no image, no agent (that is in the initramfs), and
 * not the disk's size either, to which the image is grown later.
 */
export function rootfsKey(release: string): string {
  return cacheKey("rootfs", format, {
    release,
    suite,
    packages: rootfsPackages,
    exclude: rootfsExclude,
    modules: moduleDirectories,
    files: rootfsFiles.map(({ path, content, mode }) => [path, content, mode]),
    directories: rootfsDirectories,
  });
}

/** Writes `disk` into `directory`. */
export async function buildRootfs(directory: string, options: RootfsOptions): Promise<void> {
  const { layer0, step, signal } = options;
  const root = join(directory, "root");
  try {
    await bootstrap({
      variant: "minbase",
      packages: rootfsPackages,
      exclude: rootfsExclude,
      target: root,
      scratch: directory,
      signal,
      onLine: step.log,
      onProgress: (fraction, line) => step.progress(fraction * 0.9, line),
    });
    step.progress(0.9, "adding kernel modules and settings");
    await addModules(root, layer0, signal);
    await addFiles(root);
    step.progress(0.93, "writing the disk image");
    await writeDisk(root, join(directory, "disk"), { sizeBytes: minDiskBytes, label: "sporelet", signal });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function addModules(root: string, layer0: RootfsOptions["layer0"], signal: AbortSignal | undefined) {
  const { release, modulesDirectory } = layer0;
  const source = join(modulesDirectory, release);
  const target = join(root, "usr/lib/modules", release);
  await mkdir(target, { recursive: true });
  for (const name of await readdir(source)) {
    // What depmod wrote for the whole tree is written anew for this part of it.
    if (/^modules\.(builtin|order)/.test(name)) await cp(join(source, name), join(target, name));
  }
  for (const part of moduleDirectories) {
    const from = join(source, "kernel", part);
    if ((await stat(from).catch(() => undefined)) === undefined) continue;
    await cp(from, join(target, "kernel", part), { recursive: true });
  }
  await runProcess(["depmod", "-b", root, release], {
    operation: "list the kernel modules' dependencies",
    signal,
    timeoutMs: 60_000,
  });
}

async function addFiles(root: string): Promise<void> {
  for (const path of rootfsDirectories) await mkdir(join(root, path), { recursive: true });
  for (const { path, content, mode } of rootfsFiles) {
    const target = join(root, path);
    await mkdir(dirname(target), { recursive: true });
    // Packages may have put a link there (/etc/resolv.conf); it is replaced, not followed.
    const temporary = `${target}.sporelet-new`;
    await writeFile(temporary, content, { mode });
    await rename(temporary, target);
  }
}
