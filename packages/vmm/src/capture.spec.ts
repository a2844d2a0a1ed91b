import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { dataExtents, pageBytes, readProcessMemory } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { expect, it } from "vitest";
import { prepareCapture } from "./capture.ts";
import type { Machine } from "./contract.ts";
import { regionsOf } from "./qemu/maps.ts";

const pages = 2048;
const bytes = pages * pageBytes;
/** The base: data up to here, then a hole. */
const filledPages = 1536;

/**
 * Stands for a VMM: maps the file private, and then does what it is told: `set PAGE BYTE` fills a page,
 * `anonymous PAGE COUNT` and `unmap PAGE COUNT` take the file away there, as balloons and discards do.
 */
const program = `
  const koffi = process.getBuiltinModule("module").createRequire(process.argv[1])("koffi");
  const { openSync } = require("node:fs");
  const c = koffi.load(null);
  const mmap = c.func("uint64_t mmap(uint64_t a, size_t n, int prot, int flags, int fd, int64_t off)");
  const munmap = c.func("int munmap(uint64_t a, size_t n)");
  const memset = c.func("void *memset(uint64_t at, int byte, size_t n)");
  const at = BigInt(mmap(0n, ${bytes}, 3, 2, openSync(process.argv[2], "r"), 0)); // PROT_READ|WRITE, MAP_PRIVATE
  const address = (page) => at + BigInt(page * ${pageBytes});
  require("node:readline").createInterface(process.stdin).on("line", (line) => {
    const [what, page, value] = line.split(" ");
    if (what === "set") memset(address(page), Number(value), ${pageBytes});
    if (what === "anonymous") mmap(address(page), value * ${pageBytes}, 3, 0x32, -1, 0); // FIXED|ANONYMOUS
    if (what === "unmap") munmap(address(page), value * ${pageBytes});
    console.log("done");
  });
  console.log("ready");
`;

interface FakeVmm extends AsyncDisposable {
  machine: Machine;
  base: string;
  directory: string;
  tell(...lines: string[]): Promise<void>;
  end(): Promise<void>;
}

async function startFakeVmm(): Promise<FakeVmm> {
  await using cleanup = new AsyncDisposableStack();
  const directory = cleanup.use(await temporaryDirectory()).path;
  const base = join(directory, "base");
  await writeFile(base, Buffer.alloc(filledPages * pageBytes, 0xee));
  {
    await using file = await open(base, "r+");
    await file.truncate(bytes);
  }
  const child = spawn(process.execPath, ["-e", program, import.meta.filename, base], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  const end = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  cleanup.defer(end);
  const answers = createInterface(child.stdout);
  await once(answers, "line");
  const pid = child.pid ?? 0;
  const { ino } = await stat(base);
  const machine = {
    ...{ id: "m0", pid, origin: "resume", record: { memory: base } },
    memoryMap: async () =>
      regionsOf(await readFile(`/proc/${pid}/maps`, "utf8"), { path: base, inode: ino, bytes }),
  } as unknown as Machine;
  const owned = cleanup.move();
  return {
    ...{ machine, base, directory, end },
    async tell(...lines) {
      for (const line of lines) {
        child.stdin.write(`${line}\n`);
        await once(answers, "line");
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** First byte of a page; pages here are all of one byte. */
const byteAt = (content: Buffer, page: number) => content[page * pageBytes];
const pagesOf = (extents: readonly { offset: number; length: number }[] | undefined) =>
  extents?.map(({ offset, length }) => [offset / pageBytes, length / pageBytes]);

it("takes what differs, leaves out what is the same again, and makes holes of zeros", async () => {
  await using vmm = await startFakeVmm();
  await vmm.tell("set 3 1", "set 4 2", "set 9 238", "set 20 0", "set 1600 0", "set 1700 5");
  const target = join(vmm.directory, "memory");
  await using capture = await prepareCapture({ machine: vmm.machine, target });
  await vmm.tell("set 5 3"); // It runs until it is paused.
  const { copiedBytes } = await capture.take();
  expect(copiedBytes).toBe(7 * pageBytes);
  await vmm.tell("set 3 77"); // It runs again: what comes now is none of this.
  const { changed } = await capture.complete();
  expect(pagesOf(changed)).toEqual([
    [3, 3],
    [20, 1],
    [1700, 1],
  ]);
  const content = await readFile(target);
  expect([3, 4, 5, 6, 9, 20, 1600, 1700].map((page) => byteAt(content, page))).toEqual([
    1, 2, 3, 0xee, 0xee, 0, 0, 5,
  ]);
  const data = await dataExtents(target);
  const at = 20 * pageBytes;
  expect(data.some(({ offset, length }) => offset <= at && at < offset + length)).toBe(false);
  expect(byteAt(await readFile(vmm.base), 3)).toBe(0xee);
});

it("takes memory that took the place of the file for changed: what it holds, or zero", async () => {
  await using vmm = await startFakeVmm();
  await vmm.tell(
    "anonymous 100 50",
    "set 120 9",
    "set 130 238",
    "unmap 200 10",
    "anonymous 2040 8",
    "set 2047 4",
  );
  const target = join(vmm.directory, "memory");
  await using capture = await prepareCapture({ machine: vmm.machine, target });
  await capture.take();
  const { changed } = await capture.complete();
  // Page 130 was written to with what the file holds; behind the data all is zero on both sides.
  expect(pagesOf(changed)?.toSorted(([a = 0], [b = 0]) => a - b)).toEqual([
    [100, 20],
    [120, 1],
    [121, 9],
    [131, 19],
    [200, 10],
    [2047, 1],
  ]);
  const content = await readFile(target);
  const memory = Buffer.alloc(100 * pageBytes);
  const [region] = await vmm.machine.memoryMap();
  await readProcessMemory(vmm.machine.pid, (region?.address ?? 0) + 100 * pageBytes, memory);
  expect(memory.compare(content, 100 * pageBytes, 200 * pageBytes)).toBe(0);
  expect([200, 209, 210, 2040, 2047].map((page) => byteAt(content, page))).toEqual([0, 0, 0xee, 0, 4]);
});

it("compares with another file of the same content when that is the base", async () => {
  await using vmm = await startFakeVmm();
  const other = join(vmm.directory, "other");
  await writeFile(other, await readFile(vmm.base));
  await vmm.tell("set 3 1");
  const target = join(vmm.directory, "memory");
  await using capture = await prepareCapture({ machine: vmm.machine, target, base: other });
  await capture.take();
  expect(pagesOf((await capture.complete()).changed)).toEqual([[3, 1]]);
});

it("leaves nothing when it is not completed, aborted, or its process ends", async () => {
  await using vmm = await startFakeVmm();
  const { machine, directory } = vmm;
  const target = join(directory, "memory");
  {
    await using _given = await prepareCapture({ machine, target });
  }
  expect(await readdir(directory)).toEqual(["base"]);
  await using aborted = await prepareCapture({ machine, target });
  await expect(aborted.take(AbortSignal.abort())).rejects.toMatchObject({ code: "cancelled" });
  expect(await readdir(directory)).toEqual(["base"]);
  await writeFile(target, "of somebody else");
  await expect(prepareCapture({ machine, target })).rejects.toMatchObject({ code: "already_exists" });
  expect(await readFile(target, "utf8")).toBe("of somebody else");
  const second = `${target}2`;
  await using late = await prepareCapture({ machine, target: second });
  await vmm.end();
  await expect(late.take()).rejects.toMatchObject({ operation: expect.any(String) });
  expect((await readdir(directory)).sort()).toEqual(["base", "memory"]);
});
