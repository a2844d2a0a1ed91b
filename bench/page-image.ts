/**
 * The page-image codec beside the zstd program, in one run: encoding and decoding a 1 GiB image of which 400 MiB
 * are not zero, and the size of small deltas. The data are pages of the libraries under /usr/lib, a tenth of them
 * replaced by random ones, in stretches as guests have them.
 *
 *     node bench/page-image.ts [RUNS]
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { digestOf, encodeBlob, materialize, readIndex } from "@sporelet/page-image";
import { median } from "./statistics.ts";

const MiB = 2 ** 20;
const pageBytes = 4096;
const imageBytes = 1024 * MiB;
const dataBytes = 400 * MiB;

/** What one run in a process of its own took. */
interface Run {
  ms: number;
  /** Of the process, before and at the most. */
  startBytes: number;
  peakBytes: number;
}

/** The same numbers in every run: mulberry32. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Files of at least a page below a directory, without following links. */
function* filesBelow(directory: string): Generator<string> {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile() && statSync(path).size >= 4 * pageBytes) yield path;
  }
}

/** Pages of the libraries on this host, at most 2 MiB of each. */
function libraryPages(bytes: number): Buffer {
  const pages = Buffer.alloc(bytes);
  let filled = 0;
  for (const path of filesBelow("/usr/lib")) {
    const fd = openSync(path, "r");
    const read = readSync(fd, pages, filled, Math.min(2 * MiB, bytes - filled), 0);
    closeSync(fd);
    filled += read - (read % pageBytes);
    if (bytes - filled < pageBytes) break;
  }
  return pages.subarray(0, filled);
}

/** Writes stretches of pages to scattered places of an image, and the same pages alone to a dense file. */
function makeImage(image: string, dense: string, library: Buffer, bytes: number, longest: number): void {
  const next = random(bytes);
  const noise = Buffer.alloc(longest * pageBytes);
  const [sparseFd, denseFd] = [openSync(image, "r+"), openSync(dense, "w")];
  const pages = bytes / pageBytes;
  // The image's places in order, with gaps that use it up on average.
  const gap = (2 * (imageBytes - bytes)) / pageBytes / (pages / ((longest + 1) / 2));
  let page = 0;
  for (let done = 0; done < pages; ) {
    const room = imageBytes / pageBytes - page - (pages - done);
    page += Math.min(room, next(Math.max(1, Math.floor(gap))));
    const count = Math.min(pages - done, 1 + next(longest));
    const length = count * pageBytes;
    let from: Buffer = noise;
    let at = 0;
    if (next(10) === 0) {
      for (let word = 0; word < length; word += 4) noise.writeUInt32LE(next(2 ** 32), word);
    } else {
      from = library;
      at = next(library.length / pageBytes - count) * pageBytes;
    }
    writeSync(sparseFd, from, at, length, page * pageBytes);
    writeSync(denseFd, from, at, length);
    page += count;
    done += count;
  }
  closeSync(sparseFd);
  closeSync(denseFd);
}

function emptyImage(path: string): void {
  closeSync(openSync(path, "w"));
  truncateSync(path, imageBytes);
}

/** Runs one of the tasks below in a process of its own, so that its peak memory is its own. */
function inProcess(...words: string[]): Run {
  const answer = execFileSync(process.execPath, [import.meta.filename, "--task", ...words], {
    encoding: "utf8",
  });
  return JSON.parse(answer) as Run;
}

const tasks: Record<string, (from: string, to: string) => Promise<unknown>> = {
  encode: (image, target) => encodeBlob({ image, target }),
  decode: async (path, target) =>
    materialize({ blobs: [{ path, index: (await readIndex(path)).index }], target }),
  digest: (image) => digestOf(image),
};

async function task([name = "", from = "", to = ""]: string[]): Promise<void> {
  const startBytes = residentBytes("VmRSS");
  const start = performance.now();
  await tasks[name]?.(from, to);
  const run: Run = { ms: performance.now() - start, startBytes, peakBytes: residentBytes("VmHWM") };
  process.stdout.write(JSON.stringify(run));
}

/** Not by getrusage(2): its peak includes that of the process that this one was forked from. */
function residentBytes(field: "VmRSS" | "VmHWM"): number {
  const status = readFileSync("/proc/self/status", "utf8");
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1024;
}

function timed(program: string, ...words: string[]): number {
  const start = performance.now();
  execFileSync(program, words);
  return performance.now() - start;
}

async function compare(runs: number, directory: string): Promise<void> {
  const at = (name: string) => join(directory, name);
  const write = (text: string) => process.stdout.write(`${text}\n`);
  const library = libraryPages(dataBytes);
  emptyImage(at("image"));
  makeImage(at("image"), at("dense"), library, dataBytes, 64);

  const [encodes, decodes, digests]: Run[][] = [[], [], []];
  const [packs, unpacks]: number[][] = [[], []];
  for (let i = 0; i < runs; i++) {
    for (const name of ["blob", "flat"]) rmSync(at(name), { force: true });
    encodes?.push(inProcess("encode", at("image"), at("blob")));
    packs?.push(timed("zstd", "-q", "-f", "-T2", "-3", at("dense"), "-o", at("dense.zst")));
    decodes?.push(inProcess("decode", at("blob"), at("flat")));
    unpacks?.push(timed("zstd", "-q", "-f", "-d", at("dense.zst"), "-o", at("plain")));
    digests?.push(inProcess("digest", at("image")));
  }
  if (hashOf(at("flat")) !== hashOf(at("image"))) throw new Error("the decoded image is not the image");
  const line = (what: string, ours: Run[] = [], zstd: number[] = []) => {
    const [mine, theirs] = [median(ours.map(({ ms }) => ms)), median(zstd)];
    const peak = Math.max(...ours.map(({ peakBytes }) => peakBytes)) / MiB;
    const before = median(ours.map(({ startBytes }) => startBytes)) / MiB;
    const beside = zstd.length > 0 ? `${theirs.toFixed(0)} | ${(mine / theirs).toFixed(2)}` : " | ";
    write(`| ${what} | ${mine.toFixed(0)} | ${beside} | ${peak.toFixed(0)} (${before.toFixed(0)}) |`);
  };
  write(`${dataBytes / MiB} MiB of data in a 1 GiB image, medians of ${runs}:\n`);
  write(
    "| what | ours, ms | zstd, ms | ratio | our peak RSS (before), MiB |\n| --- | --- | --- | --- | --- |",
  );
  line("encode, beside `zstd -T2 -3`", encodes, packs);
  line("decode, beside `zstd -d`", decodes, unpacks);
  line("digest", digests);
  const [blob, packed] = [statSync(at("blob")).size, statSync(at("dense.zst")).size];
  write(`\nsize: ${blob} bytes, beside zstd's ${packed} (${(blob / packed).toFixed(3)})\n`);

  write(
    "| delta | blob, bytes | index | `zstd -3` | ratio | of 1.1 x zstd-3 + 64 KiB |\n| --- | --- | --- | --- | --- | --- |",
  );
  for (const megabytes of [1, 2, 5, 10]) {
    for (const name of ["child", "delta"]) rmSync(at(name), { force: true });
    execFileSync("cp", ["--sparse=always", at("image"), at("child")]);
    makeImage(at("child"), at("pages"), library, megabytes * MiB, 4);
    const delta = await encodeBlob({ image: at("child"), base: at("image"), target: at("delta") });
    execFileSync("zstd", ["-q", "-f", "-3", at("pages"), "-o", at("pages.zst")]);
    const stream = statSync(at("pages.zst")).size;
    const ratio = (delta.sizeBytes / stream).toFixed(3);
    const share = (delta.sizeBytes / (1.1 * stream + 64 * 1024)).toFixed(3);
    write(
      `| ${megabytes} MiB | ${delta.sizeBytes} | ${delta.index.sizeBytes} | ${stream} | ${ratio} | ${share} |`,
    );
  }
}

function hashOf(path: string): string {
  const hash = createHash("sha256");
  const buffer = Buffer.alloc(MiB);
  const fd = openSync(path, "r");
  for (let read = readSync(fd, buffer); read > 0; read = readSync(fd, buffer))
    hash.update(buffer.subarray(0, read));
  closeSync(fd);
  return hash.digest("hex");
}

const [first, ...words] = process.argv.slice(2);
if (first === "--task") {
  await task(words);
} else {
  const directory = mkdtempSync(join(tmpdir(), "page-image-bench-"));
  try {
    await compare(Number(first ?? 5), directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
