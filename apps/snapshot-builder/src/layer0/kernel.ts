/** Layer 0's kernel: Debian's, unpacked from its package and never installed on the host. */
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { SporeletError } from "@sporelet/errors";
import { runProcess } from "@sporelet/host";
import { candidate, type PackageVersion, unpackPackage } from "../debian/packages.ts";
import { findPayload, kernelProblem, type Payload } from "../kernel/vmlinux.ts";

/** The cloud flavour has drivers for virtual hardware only and is a third of the generic one's size. */
const metaPackage = "linux-image-cloud-amd64";

/** Resolves the meta package to the package that holds the current kernel. */
export async function currentKernel(options: {
  signal?: AbortSignal | undefined;
  onLine?: (line: string) => void;
}): Promise<PackageVersion & { release: string }> {
  const { depends } = await candidate(metaPackage, options);
  const name = depends.find((one) => /^linux-image-\d/.test(one));
  if (name === undefined) {
    throw new SporeletError({
      code: "not_found",
      operation: "find Debian's kernel package",
      subject: metaPackage,
      reason: `it depends on no kernel, but on: ${depends.join(", ")}`,
    });
  }
  const { version } = await candidate(name, options);
  return { name, version, release: name.slice("linux-image-".length) };
}

/**
 * Writes `vmlinux` (uncompressed ELF) and `modules/<release>/` with a fresh `modules.dep` into `directory`.
 */
export async function unpackKernel(
  kernel: PackageVersion & { release: string },
  directory: string,
  options: { signal?: AbortSignal | undefined; onLine?: (line: string) => void },
): Promise<void> {
  await using unpacked = await unpackPackage(kernel, directory, options);
  const image = join(unpacked.root, "boot", `vmlinuz-${kernel.release}`);
  const payload = findPayload(await readFile(image), image);
  const vmlinux = await decompress(payload, directory, options.signal);
  const problem = kernelProblem(vmlinux, payload);
  if (problem !== undefined) {
    throw new SporeletError({
      code: "corrupt",
      operation: "extract the kernel from",
      subject: image,
      reason: problem,
    });
  }
  await writeFile(join(directory, "vmlinux"), vmlinux);
  await runProcess(["depmod", "-b", unpacked.root, kernel.release], {
    operation: "list the kernel modules' dependencies",
    timeoutMs: 60_000,
    signal: options.signal,
  });
  await mkdir(join(directory, "modules"));
  const modules = join("lib", "modules", kernel.release);
  await cp(join(unpacked.root, modules), join(directory, "modules", kernel.release), { recursive: true });
}

async function decompress(
  { compression, bytes }: Payload,
  directory: string,
  signal?: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (compression === "none") return bytes;
  if (compression === "gzip") return gunzipSync(bytes);
  if (compression === "zstd") return zstdDecompressSync(bytes);
  const packed = join(directory, `payload.${compression}`);
  const plain = join(directory, "payload");
  await writeFile(packed, bytes);
  const argv =
    compression === "lz4" ? ["lz4", "-q", "-d", "-f", packed, plain] : ["xz", "-q", "-d", "-k", packed];
  await runProcess(argv, {
    operation: "decompress the kernel",
    timeoutMs: 60_000,
    signal,
  });
  const vmlinux = await readFile(plain);
  await Promise.all([rm(packed, { force: true }), rm(plain)]);
  return vmlinux;
}
