import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it, type TestContext } from "vitest";
import { dataExtents } from "../files/extents.ts";
import { openOverlay } from "../files/overlay.ts";
import { pageBytes } from "../files/pages.ts";
import { runProcess } from "../process.ts";
import { temporaryDirectory } from "../testing/index.ts";
import { privatePageRuns } from "./pagemap.ts";
import { memoryUse, readProcessMemory } from "./process-memory.ts";
import type { MappedRegion } from "./runs.ts";
import { createMemorySpool } from "./spool.ts";

const pages = 2048;
/** This one is overwritten with zeros. */
const cleared = 100;
const written = [0, 1, 2, 7, cleared, 511, 512, 513, 1500, 2047];

/** Maps the file private, reads all of it, writes to some pages, says where it is, and waits. */
const program = `
  const koffi = process.getBuiltinModule("module").createRequire(process.argv[1])("koffi");
  const { openSync } = require("node:fs");
  const c = koffi.load(null);
  const mmap = c.func("uint64_t mmap(void *a, size_t n, int prot, int flags, int fd, int64_t off)");
  const memset = c.func("void *memset(uint64_t at, int byte, size_t n)");
  const memchr = c.func("uint64_t memchr(uint64_t at, int byte, size_t n)");
  const bytes = ${pages * pageBytes};
  const at = mmap(null, bytes, 3, 2, openSync(process.argv[2], "r"), 0); // PROT_READ|WRITE, MAP_PRIVATE
  memchr(at, 0x77, bytes);
  for (const page of ${JSON.stringify(written)}) memset(BigInt(at) + BigInt(page * ${pageBytes}), page % 251 + 1, 10);
  memset(BigInt(at) + BigInt(${cleared * pageBytes}), 0, ${pageBytes});
  console.log(String(at));
  const madvise = c.func("int madvise(uint64_t at, size_t n, int advice)");
  process.stdin.on("data", () => console.log(madvise(BigInt(at), bytes, 21))); // MADV_PAGEOUT, Linux 5.4
`;

interface Mapper extends AsyncDisposable {
  pid: number;
  /** Has the kernel write its own pages to swap. */
  pageOut(): Promise<void>;
  regions: MappedRegion[];
}

async function startMapper(file: string): Promise<Mapper> {
  const child = spawn(process.execPath, ["-e", program, import.meta.filename, file], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface(child.stdout);
  const [line] = (await once(lines, "line")) as [string];
  return {
    pid: child.pid ?? 0,
    async pageOut() {
      child.stdin.write("out\n");
      const [result] = (await once(lines, "line")) as [string];
      if (result !== "0") throw new Error("the pages were not swapped out");
    },
    regions: [{ address: Number(line), bytes: pages * pageBytes, offset: 0 }],
    async [Symbol.asyncDispose]() {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function withMapper(
  run: (mapper: Mapper, file: string, directory: string) => Promise<void>,
): Promise<void> {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "memory");
  await writeFile(file, Buffer.alloc(pages * pageBytes, 0xee));
  await using mapper = await startMapper(file);
  await run(mapper, file, directory.path);
}

const runs = (regions: MappedRegion[]) =>
  regions.map(({ offset, bytes }) => [offset / pageBytes, bytes / pageBytes]);
const expected = [
  [0, 3],
  [7, 1],
  [100, 1],
  [511, 3],
  [1500, 1],
  [2047, 1],
];

it("both ways of finding a process's private pages agree with what it wrote", async (ctx) => {
  await withMapper(async ({ pid, regions }) => {
    const read = await privatePageRuns(pid, regions, "read");
    expect(runs(read)).toEqual(expected);
    expect(await privatePageRuns(pid, regions)).toEqual(read);
    expect(await unlessUnknown(ctx, privatePageRuns(pid, regions, "scan"))).toEqual(read);
  });
});

/** What PAGEMAP_SCAN finds; skips the test on kernels before 6.7, which do not have it. */
async function unlessUnknown<T>(ctx: TestContext, scan: Promise<T>): Promise<T> {
  try {
    return await scan;
  } catch (error) {
    if (error instanceof Error && /ENOTTY/.test(String(error.cause)))
      ctx.skip("this kernel has no PAGEMAP_SCAN");
    throw error;
  }
}

it.for(["read", "scan"] as const)(
  "regions are looked at on their own, with their own offsets (%s)",
  async (method, ctx) => {
    await withMapper(async ({ pid, regions }) => {
      const [base] = regions;
      if (base === undefined) throw new Error("no region");
      const halves = [1024, 0].map((page) => ({
        address: base.address + page * pageBytes,
        bytes: 1024 * pageBytes,
        offset: 10_000 * pageBytes + page * pageBytes,
      }));
      expect(runs(await unlessUnknown(ctx, privatePageRuns(pid, halves, method)))).toEqual(
        [...expected.slice(4), ...expected.slice(0, 4)].map(([page = 0, count]) => [10_000 + page, count]),
      );
    });
  },
);

it("the private pages laid over the mapped file give the process's memory", async () => {
  await withMapper(async ({ pid, regions }, file, directory) => {
    const copy = join(directory, "copy");
    await writeFile(copy, await readFile(file));
    const found = await privatePageRuns(pid, regions);
    using spool = await createMemorySpool({ expectedBytes: 1, overflow: join(directory, "overflow") });
    expect(await spool.take(pid, found)).toBe(written.length * pageBytes);
    await using overlay = await openOverlay(copy, file);
    for (const pieces of spool.pieces()) await overlay.put(pieces);
    const memory = Buffer.alloc(pages * pageBytes);
    await readProcessMemory(pid, regions[0]?.address ?? 0, memory);
    expect(Buffer.compare(memory, await readFile(copy))).toBe(0);
    expect(memory[7 * pageBytes]).toBe(8);
    const extents = await dataExtents(copy);
    expect(
      extents.some(
        ({ offset, length }) => offset <= cleared * pageBytes && offset + length > cleared * pageBytes,
      ),
    ).toBe(false);
    await using handle = await open(file, "r");
    const untouched = Buffer.alloc(10);
    await handle.read(untouched, 0, 10, 0);
    expect(untouched).toEqual(Buffer.alloc(10, 0xee));
  });
});

it("finds pages that were swapped out", async (ctx) => {
  await using swap = await someSwap();
  if ("missing" in swap) return ctx.skip(swap.missing);
  await withMapper(async ({ pid, regions, pageOut }) => {
    await pageOut();
    expect(await readFile(`/proc/${pid}/status`, "utf8")).toMatch(/^VmSwap:\s+[1-9]/m);
    for (const method of ["read", undefined] as const) {
      expect(runs(await privatePageRuns(pid, regions, method))).toEqual(expected);
    }
  });
});

/**
 * The host's swap, or where it has none a small file for the time of a test, by a loop device: file systems that take
 * no swap files can hold that too.
 */
async function someSwap(): Promise<AsyncDisposable & ({ missing: string } | object)> {
  const nothing = { async [Symbol.asyncDispose]() {} };
  if ((await readFile("/proc/swaps", "utf8")).trim().split("\n").length > 1) return nothing;
  if (process.getuid?.() !== 0)
    return { missing: "this host has no swap, and to add some needs root", ...nothing };
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await temporaryDirectory());
  const run = async (...argv: string[]) =>
    (await runProcess(argv, { operation: "add swap for a test", timeoutMs: 60_000 })).stdout.trim();
  const file = join(directory.path, "swap");
  await writeFile(file, Buffer.alloc(32 * 1024 * 1024));
  try {
    const device = await run("losetup", "--find", "--show", file);
    undo.defer(async () => void (await run("losetup", "--detach", device)));
    await run("mkswap", device);
    await run("swapon", device);
    undo.defer(async () => void (await run("swapoff", device)));
  } catch (error) {
    return { missing: `this host has no swap, and none can be added: ${error}`, ...nothing };
  }
  const owned = undo.move();
  return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

it("takes more than it was given memory for, through a file that has no name", async () => {
  await withMapper(async ({ pid, regions }, _, directory) => {
    const memory = Buffer.alloc(pages * pageBytes);
    await readProcessMemory(pid, regions[0]?.address ?? 0, memory);
    // The same 8 MiB three times, as runs that do not fit into chunks.
    const [region] = regions;
    if (region === undefined) throw new Error("no region");
    const runs = [0, 1, 2].flatMap((time) =>
      [0, 700, 1400].map((page) => ({
        address: region.address + page * pageBytes,
        bytes: Math.min(700, pages - page) * pageBytes,
        offset: (time * pages + page) * pageBytes,
      })),
    );
    for (const memoryBytes of [0, 8 * 1024 * 1024, 64 * 1024 * 1024]) {
      const overflow = join(directory, "overflow");
      using spool = await createMemorySpool({ expectedBytes: 3 * memory.length, overflow, memoryBytes });
      expect(await spool.take(pid, runs)).toBe(3 * memory.length);
      expect(await readdir(directory)).toEqual(["memory"]);
      const result = Buffer.alloc(3 * memory.length);
      for (const pieces of spool.pieces()) {
        for (const { offset, content } of pieces) content.copy(result, offset);
      }
      for (const time of [0, 1, 2]) {
        expect(memory.compare(result, time * memory.length, (time + 1) * memory.length)).toBe(0);
      }
    }
  });
});

it("says that the process has ended, and stops when it is told to", async () => {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "memory");
  await writeFile(file, Buffer.alloc(pages * pageBytes, 0xee));
  const mapper = await startMapper(file);
  using spool = await createMemorySpool({ expectedBytes: 0, overflow: join(directory.path, "overflow") });
  const twice = [...mapper.regions, ...mapper.regions];
  await expect(spool.take(mapper.pid, twice, AbortSignal.abort())).rejects.toMatchObject({
    code: "cancelled",
  });
  await mapper[Symbol.asyncDispose]();
  await expect(spool.take(mapper.pid, twice)).rejects.toMatchObject({ code: "not_found" });
});

it("a process that does not exist is not found", async () => {
  await expect(memoryUse(0x3fffff)).rejects.toMatchObject({ code: "not_found" });
  await expect(privatePageRuns(0x3fffff, [])).rejects.toMatchObject({ code: "not_found" });
  await expect(readProcessMemory(0x3fffff, 0, Buffer.alloc(1))).rejects.toMatchObject({ code: "not_found" });
});

it("memory use counts shared pages less than resident ones", async () => {
  const { rssBytes, pssBytes, privateBytes } = await memoryUse(process.pid);
  expect(rssBytes).toBeGreaterThanOrEqual(pssBytes);
  expect(pssBytes).toBeGreaterThanOrEqual(privateBytes);
  expect(privateBytes).toBeGreaterThan(0);
});
