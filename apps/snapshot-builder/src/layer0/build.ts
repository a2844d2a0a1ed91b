/** Layer 0: a kernel and an initramfs that boot the agent under every VMM. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { runProcess } from "@sporelet/host";
import { type Cache, cacheKey } from "@sporelet/store";
import { candidate, unpackPackage } from "../debian/packages.ts";
import { type OnBuildEvent, startStep } from "../events.ts";
import { loadOrder, moduleName, parseModulesDep } from "../kernel/modules.ts";
import { type AgentBinary, readAgent } from "./agent.ts";
import { writeInitramfs } from "./initramfs.ts";
import { currentKernel, unpackKernel } from "./kernel.ts";

export interface Layer0 {
  /** Uncompressed ELF kernel. */
  kernel: string;
  initramfs: string;
  /** `uname -r` of it. */
  release: string;
  /** Holds `<release>/` with all of the kernel's modules. */
  modulesDirectory: string;
  /** Kernel arguments beyond those that the VMM's driver needs. */
  arguments: string[];
  /** Stands for all of the above in the keys of later stages. */
  key: string;
}

export interface Layer0Options {
  store: { cache: Cache };
  /** Rebuild even what is cached. */
  noCache?: boolean;
  signal?: AbortSignal | undefined;
  onEvent?: OnBuildEvent;
}

/**
 * Devices of QEMU's microvm (virtio over MMIO), Firecracker (MMIO, PCI since 1.13) and Cloud Hypervisor
 * (PCI): transport, disk, network, console, randomness, balloon, vsock. ext4 is built into Debian's kernel;
 * it is named for kernels where it is not.
 */
export const wantedModules = [
  "virtio_mmio",
  "virtio_pci",
  "virtio_console",
  "virtio_blk",
  "virtio_net",
  "virtio_rng",
  "virtio_balloon",
  "vmw_vsock_virtio_transport",
  "ext4",
];

/**
 * What every Sporelet guest boots with.
 *
 * - `init_on_free=1`: freed pages are zero and so become holes in the memory file.
 * - `random.trust_cpu=on`: the first random numbers do not wait for entropy; clones are reseeded anyway.
 * - `transparent_hugepage=never`: a write to a huge page would copy 2 MiB of a clone's memory, not 4 KiB.
 */
export const kernelArguments = [
  "console=ttyS0",
  "quiet",
  "reboot=t",
  "panic=-1",
  "init_on_free=1",
  "random.trust_cpu=on",
  "transparent_hugepage=never",
];

/** Raised when what is written into the initramfs changes without any of its inputs changing. */
const initramfsFormat = 1;

/**
 * Builds Layer 0, or takes it from the cache: by kernel package, agent, busybox package and module list.
 * @throws SporeletError `not_found` without agent or package, `unsupported` when a program is missing
 */
export async function buildLayer0({
  store,
  noCache = false,
  signal,
  onEvent = () => {},
}: Layer0Options): Promise<Layer0> {
  const options = { signal, refresh: noCache };
  const agent = await readAgent();

  const kernelStep = startStep("kernel", onEvent);
  const apt = { signal, onLine: kernelStep.log };
  const kernel = await currentKernel(apt);
  const kernelKey = cacheKey(["kernel", kernel.name, kernel.version]);
  const kernelEntry = await store.cache.getOrCreate(
    "kernel",
    kernelKey,
    (directory) => unpackKernel(kernel, directory, apt),
    options,
  );
  kernelStep[kernelEntry.cached ? "cached" : "done"](`Linux ${kernel.release}`);

  const initramfsStep = startStep("initramfs", onEvent);
  const busybox = await candidate("busybox-static", apt);
  const key = cacheKey([
    "initramfs",
    initramfsFormat,
    kernelKey,
    agent.digest,
    busybox.version,
    wantedModules,
  ]);
  const modulesDirectory = join(kernelEntry.directory, "modules");
  const initramfsEntry = await store.cache.getOrCreate(
    "initramfs",
    key,
    async (directory) => {
      await using unpacked = await unpackPackage(busybox, directory, apt);
      const content = await initramfsContent(
        {
          agent,
          busyboxPath: join(unpacked.root, "bin/busybox"),
          modules: join(modulesDirectory, kernel.release),
        },
        signal,
      );
      await writeFile(join(directory, "initramfs"), writeInitramfs(content));
    },
    options,
  );
  initramfsStep[initramfsEntry.cached ? "cached" : "done"]();

  return {
    kernel: join(kernelEntry.directory, "vmlinux"),
    initramfs: join(initramfsEntry.directory, "initramfs"),
    release: kernel.release,
    modulesDirectory,
    arguments: [...kernelArguments],
    key: cacheKey([key, kernelArguments]),
  };
}

async function initramfsContent(
  from: { agent: AgentBinary; busyboxPath: string; modules: string },
  signal: AbortSignal | undefined,
) {
  const { stdout: applets } = await runProcess([from.busyboxPath, "--list-full"], {
    operation: "list busybox's applets",
    timeoutMs: 10_000,
    signal,
  });
  const dependencies = parseModulesDep(await readFile(join(from.modules, "modules.dep"), "utf8"));
  const builtin = await readFile(join(from.modules, "modules.builtin"), "utf8");
  const { files, missing } = loadOrder(wantedModules, dependencies, builtin);
  if (missing.length > 0) {
    throw new SporeletError({
      code: "unsupported",
      operation: "build the initramfs",
      subject: from.modules,
      reason: `this kernel has no module ${missing.join(", ")}`,
    });
  }
  return {
    agent: from.agent.content,
    busybox: await readFile(from.busyboxPath),
    applets: applets.split("\n").filter(Boolean),
    modules: await Promise.all(
      files.map(async (path) => ({
        name: `${moduleName(path)}.ko`,
        content: await readFile(join(from.modules, path)),
      })),
    ),
  };
}
