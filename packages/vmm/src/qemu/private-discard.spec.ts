import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pageBytes, punchHole } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { privateDiscardEnvironment, privateDiscardLibrary } from "./private-discard.ts";

const pages = 16;
/** FALLOC_FL_KEEP_SIZE, and with it FALLOC_FL_PUNCH_HOLE. */
const [keepSize, hole] = [1, 3];
const [ENOMEM, EINVAL, EOPNOTSUPP] = [12, 22, 95];

/**
 * Stands for a VMM: does with a file what it is told, and prints what fallocate64() gave as errno, and of `look`
 * the first byte of each page that is mapped. Numbers are pages.
 */
const program = `
  const koffi = process.getBuiltinModule("module").createRequire(process.argv[1])("koffi");
  const { openSync } = require("node:fs");
  const c = koffi.load(null);
  const mmap = c.func("uint64_t mmap64(uint64_t a, size_t n, int prot, int flags, int fd, int64_t off)");
  const fallocate = c.func("int fallocate64(int fd, int mode, int64_t offset, int64_t bytes)");
  const memset = c.func("void *memset(uint64_t at, int byte, size_t n)");
  const memcpy = c.func("void *memcpy(void *to, uint64_t from, size_t n)");
  const [file, ...commands] = JSON.parse(process.argv[2]);
  const fd = openSync(file, "r+");
  let at, mapped;
  const address = (page) => at + BigInt(page * ${pageBytes});
  const answers = [];
  for (const [what, first, second, third, times = 1] of commands) {
    if (what === "private" || what === "shared") {
      mapped = second;
      const flags = what === "private" ? 2 : 1;
      at = BigInt(mmap(0n, mapped * ${pageBytes}, 3, flags, fd, first * ${pageBytes}));
    }
    if (what === "set") memset(address(first), second, 1);
    if (what === "look") {
      const content = Buffer.alloc(mapped * ${pageBytes});
      memcpy(content, at, content.length);
      answers.push(Array.from({ length: mapped }, (_, page) => content[page * ${pageBytes}]));
    }
    if (what === "fallocate") {
      let done = 0;
      for (let i = 0; i < times && done === 0; i++) {
        done = fallocate(fd, first, second * ${pageBytes}, third * ${pageBytes});
      }
      answers.push(done === 0 ? 0 : koffi.errno());
    }
  }
  console.log(JSON.stringify(answers));
`;

type Command =
  | ["private" | "shared", from: number, pages: number]
  | ["set", page: number, byte: number]
  | ["look"]
  | ["fallocate", mode: number, from: number, pages: number, times?: number];

/** A file whose pages are filled with their numbers, from 1 on, and programs that use it as a VMM would. */
async function memoryFile() {
  const directory = await temporaryDirectory();
  const file = join(directory.path, "memory");
  const content = Buffer.concat(Array.from({ length: pages }, (_, i) => Buffer.alloc(pageBytes, i + 1)));
  await writeFile(file, content);
  return {
    file,
    /** Makes a hole in it. */
    async punch(from: number, count: number): Promise<void> {
      await using opened = await open(file, "r+");
      punchHole(opened.fd, from * pageBytes, count * pageBytes);
    },
    /** @param named the file that the library is told to keep whole */
    async run(commands: Command[], named = file): Promise<{ answers: unknown[]; log: string; code: number }> {
      const library = openSync(privateDiscardLibrary(), "r");
      const words = ["-e", program, import.meta.filename, JSON.stringify([file, ...commands])];
      const child = spawn(process.execPath, words, {
        env: privateDiscardEnvironment(named),
        stdio: ["ignore", "pipe", "pipe", "ignore", "ignore", library],
      });
      closeSync(library);
      const ended = once(child, "exit");
      const [out, log] = await Promise.all([text(child.stdout as never), text(child.stderr as never)]);
      const [code] = await ended;
      return { answers: out === "" ? [] : JSON.parse(out), log, code };
    },
    /** The first byte of each of its pages. */
    async pages(): Promise<number[]> {
      const now = await readFile(file);
      return Array.from({ length: pages }, (_, page) => now[page * pageBytes] ?? -1);
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

const whole = Array.from({ length: pages }, (_, i) => i + 1);
const without = (from: number, count: number, first = 0) =>
  whole.slice(first).map((byte, i) => (i + first >= from && i + first < from + count ? 0 : byte));

describe("a hole in memory that is mapped privately", () => {
  it("is in the process alone", async () => {
    await using memory = await memoryFile();
    const { answers } = await memory.run([
      ["private", 0, pages],
      ["set", 3, 99],
      ["fallocate", hole, 2, 4],
      ["look"],
      ["set", 4, 77],
      ["look"],
    ]);
    const [done, emptied, used] = answers;
    expect(done).toBe(0);
    expect(emptied).toEqual(without(2, 4));
    expect(used).toEqual(without(2, 4).with(4, 77));
    expect(await memory.pages()).toEqual(whole);
  });

  it("only drops what the process wrote where the file has one", async () => {
    await using memory = await memoryFile();
    await memory.punch(8, pages - 8);
    // So often that it would be refused if each took a mapping.
    const { answers } = await memory.run([
      ["private", 0, pages],
      ["set", 9, 99],
      ["set", 10, 99],
      ["fallocate", hole, 10, pages - 10],
      ["look"],
      ["fallocate", hole, 8, 8, 20_000],
      ["look"],
    ]);
    const holed = without(8, pages - 8);
    expect(answers).toEqual([0, holed.with(9, 99), 0, holed]);
    expect(await memory.pages()).toEqual(holed);
  });

  it("is refused when the process would have too many mappings", async () => {
    await using memory = await memoryFile();
    const { answers } = await memory.run([
      ["private", 0, pages],
      ["fallocate", hole, 2, 1, 16_384],
      ["fallocate", hole, 2, 1],
      ["look"],
    ]);
    expect(answers).toEqual([0, ENOMEM, without(2, 1)]);
    expect(await memory.pages()).toEqual(whole);
  });

  it("is at its place when only a part of the file is mapped", async () => {
    await using memory = await memoryFile();
    const { answers } = await memory.run([["private", 4, 8], ["fallocate", hole, 10, 2], ["look"]]);
    expect(answers).toEqual([0, without(10, 2, 4).slice(0, 8)]);
    expect(await memory.pages()).toEqual(whole);
  });

  const middle: Command = ["private", 4, 8];
  const firstPage: Command = ["fallocate", hole, 0, 1];
  it.each<[string, Command[], number]>([
    ["outside of what is mapped", [middle, ["fallocate", hole, 3, 1]], EINVAL],
    ["that ends behind it", [middle, ["fallocate", hole, 11, 2]], EINVAL],
    ["of more than all", [middle, ["fallocate", hole, 4, 2 ** 40]], EINVAL],
    ["without a size", [middle, ["fallocate", hole, 4, 0]], EINVAL],
    ["before it is mapped", [firstPage], EOPNOTSUPP],
    ["when it is mapped twice", [["private", 0, 8], ["private", 8, 8], firstPage], EOPNOTSUPP],
    ["when it is mapped shared", [["shared", 0, 8], firstPage], EOPNOTSUPP],
    [
      "that is another change",
      [
        ["private", 0, 8],
        ["fallocate", keepSize, 0, pages * 2],
      ],
      EOPNOTSUPP,
    ],
  ])("is refused %s", async (_, commands, errno) => {
    await using memory = await memoryFile();
    expect((await memory.run(commands)).answers).toEqual([errno]);
    expect(await memory.pages()).toEqual(whole);
  });

  it("is a hole in any other file", async () => {
    await using memory = await memoryFile();
    await using other = await memoryFile();
    const { answers } = await memory.run(
      [
        ["private", 0, pages],
        ["fallocate", hole, 2, 4],
      ],
      other.file,
    );
    expect(answers).toEqual([0]);
    expect(await memory.pages()).toEqual(without(2, 4));
    expect(await other.pages()).toEqual(whole);
  });

  it("ends the program when the file that is to stay whole is not there", async () => {
    await using memory = await memoryFile();
    const { code, log, answers } = await memory.run([["private", 0, pages]], "/nowhere/memory");
    expect({ code, answers }).toEqual({ code: 1, answers: [] });
    expect(log).toContain("/nowhere/memory: No such file or directory");
  });
});
