/** What people would do without Sporelet, with the snapshot's files, zstd and curl. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { differingPages } from "@sporelet/page-image";

const run = promisify(execFile);
const files = ["memory", "vmstate", "disk", "kernel", "initramfs"];
const pageBytes = 4096;

export interface RawPush {
  tookMs: number;
  blobs: { file: string; url: string }[];
}

/** The files that a snapshot consists of. */
export async function rawFiles(
  directory: string,
): Promise<{ file: string; path: string; sizeBytes: number }[]> {
  const found = await Promise.all(
    files.map(async (file) => {
      const path = join(directory, file);
      const stats = await stat(path).catch(() => undefined);
      return stats === undefined ? [] : [{ file, path, sizeBytes: stats.size }];
    }),
  );
  return found.flat();
}

/** Compresses each file with both cores and sends it in one request. The digests are not counted. */
export async function pushRaw(directory: string, repository: string, scratch: string): Promise<RawPush> {
  let tookMs = 0;
  const blobs: RawPush["blobs"] = [];
  const [host = "", ...rest] = repository.split("/");
  for (const { file, path } of await rawFiles(directory)) {
    const compressed = join(scratch, `${file}.zst`);
    let start = performance.now();
    await run("zstd", ["-q", "-f", "-T2", "-3", path, "-o", compressed]);
    tookMs += performance.now() - start;
    const digest = await sha256(compressed);
    start = performance.now();
    const base = `http://${host}/v2/${rest.join("/")}/blobs`;
    const { stdout } = await run("curl", ["-sS", "-i", "-X", "POST", `${base}/uploads/`]);
    const location = /^location: (\S+)/im.exec(stdout)?.[1];
    if (location === undefined) throw new Error(`the registry gave no location: ${stdout}`);
    const url = `${location}${location.includes("?") ? "&" : "?"}digest=${encodeURIComponent(digest)}`;
    await run("curl", [
      "-sS",
      "--fail",
      "-T",
      compressed,
      "-H",
      "Content-Type: application/octet-stream",
      url,
    ]);
    tookMs += performance.now() - start;
    await rm(compressed);
    blobs.push({ file, url: `${base}/${digest}` });
  }
  return { tookMs, blobs };
}

/** Fetches each file and decompresses it, sparsely. @returns how long that took, milliseconds */
export async function pullRaw({ blobs }: RawPush, home: string): Promise<number> {
  const directory = join(home, "store/raw");
  await mkdir(directory, { recursive: true });
  const start = performance.now();
  for (const { file, url } of blobs) {
    const target = join(directory, file);
    await run("curl", ["-sS", "--fail", "-o", `${target}.zst`, url]);
    await run("zstd", ["-q", "-d", "--sparse", `${target}.zst`, "-o", target]);
  }
  // What is pulled by Sporelet is on the disk, not in memory, when it is said to be there.
  await run("sync", ["-f", directory]);
  const tookMs = performance.now() - start;
  await rm(directory, { recursive: true });
  return tookMs;
}

/** Size of `zstd -3` of all pages of memory and disk in which two snapshots differ, as one stream. */
export async function zstdSizeOfDifference(child: string, parent: string, scratch: string): Promise<number> {
  const target = join(scratch, "changed");
  await using out = await open(target, "w");
  for (const file of ["memory", "disk"]) {
    await using image = await open(join(child, file), "r");
    for (const { page, count } of await differingPages(join(child, file), join(parent, file))) {
      const buffer = Buffer.alloc(count * pageBytes);
      await image.read(buffer, 0, buffer.length, page * pageBytes);
      await out.write(buffer);
    }
  }
  await run("zstd", ["-q", "-f", "-3", target, "-o", `${target}.zst`]);
  const { size } = await stat(`${target}.zst`);
  await rm(target);
  await rm(`${target}.zst`);
  return size;
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}
