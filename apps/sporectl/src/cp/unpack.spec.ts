import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type Header, pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { packTree } from "./pack.ts";
import { unpackTree } from "./unpack.ts";

let directory: string;
let outside: string;
let target: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), "sporectl-cp-"));
  outside = path.join(directory, "outside");
  target = path.join(directory, "target");
  await mkdir(outside);
  await mkdir(target);
  await writeFile(path.join(outside, "precious"), "intact");
});

afterEach(async () => {
  expect(await readFile(path.join(outside, "precious"), "utf8")).toBe("intact");
  expect(await readdir(outside)).toEqual(["precious"]);
  await rm(directory, { recursive: true });
});

type Entry = Partial<Header> & { name: string; content?: string };

function tarOf(entries: Entry[]): AsyncIterable<Uint8Array> {
  const stream = pack();
  for (const { content, ...header } of entries) stream.entry(header, content ?? "");
  stream.finalize();
  return stream as unknown as AsyncIterable<Uint8Array>;
}

const skipped: string[] = [];
const options = {
  archive: false,
  signal: new AbortController().signal,
  onSkipped: (name: string) => skipped.push(name),
};

describe("unpacking", () => {
  it("gives back what was packed, with modes, times, links and empty directories", async () => {
    const from = path.join(directory, "from");
    await mkdir(path.join(from, "sub/empty"), { recursive: true, mode: 0o750 });
    await writeFile(path.join(from, "sub/file"), "x".repeat(300_000), { mode: 0o640 });
    await writeFile(path.join(from, "nothing"), "");
    await symlink("../outside/precious", path.join(from, "link"));
    await symlink("/etc/passwd", path.join(from, "absolute"));
    await unpackTree(packTree(from, { ...options, name: "tree" }), target, { ...options, name: "copy" });
    const copy = path.join(target, "copy");
    expect((await readdir(copy, { recursive: true })).sort()).toEqual([
      "absolute",
      "link",
      "nothing",
      "sub",
      "sub/empty",
      "sub/file",
    ]);
    expect((await stat(path.join(copy, "sub/file"))).mode & 0o7777).toBe(0o640);
    expect((await stat(path.join(copy, "sub/file"))).mtimeMs).toBeCloseTo(
      Math.floor((await stat(path.join(from, "sub/file"))).mtimeMs / 1000) * 1000,
      -4,
    );
    expect((await stat(path.join(copy, "sub/empty"))).mode & 0o7777).toBe(0o750);
    expect(await readlink(path.join(copy, "link"))).toBe("../outside/precious");
    expect(await readlink(path.join(copy, "absolute"))).toBe("/etc/passwd");
  });

  it("fills a directory that may not be written to", async () => {
    const tar = tarOf([
      { name: "d/", type: "directory", mode: 0o555 },
      { name: "d/f", content: "x" },
    ]);
    await unpackTree(tar, target, { ...options, name: "d" });
    expect((await stat(path.join(target, "d"))).mode & 0o777).toBe(0o555);
  });

  it("does not follow a link that the tar itself made", async () => {
    const tar = tarOf([
      { name: "d/", type: "directory" },
      { name: "d/out", type: "symlink", linkname: outside },
      { name: "d/out/precious", content: "altered" },
    ]);
    await expect(unpackTree(tar, target, { ...options, name: "d" })).rejects.toMatchObject({
      code: "failed_precondition",
    });
  });

  it("does not follow a link that stands there already, as a file or as a directory", async () => {
    await symlink(path.join(outside, "precious"), path.join(target, "file"));
    await symlink(outside, path.join(target, "sub"));
    const file = tarOf([{ name: "file", content: "new" }]);
    await unpackTree(file, target, { ...options, name: "file" });
    expect(await readFile(path.join(target, "file"), "utf8")).toBe("new");
    const tree = tarOf([
      { name: "t/", type: "directory" },
      { name: "t/sub/precious", content: "altered" },
    ]);
    await expect(unpackTree(tree, target, { ...options, name: undefined })).rejects.toMatchObject({
      code: "failed_precondition",
    });
  });

  it("does not make a directory of a link to one", async () => {
    await symlink(outside, path.join(target, "sub"));
    const tar = tarOf([
      { name: "t/", type: "directory" },
      { name: "t/sub/", type: "directory", mode: 0o700 },
    ]);
    const before = (await stat(outside)).mode;
    await expect(unpackTree(tar, target, { ...options, name: undefined })).rejects.toMatchObject({
      code: "failed_precondition",
    });
    expect((await stat(outside)).mode).toBe(before);
  });

  it("makes hard links inside of the tree only", async () => {
    const good = tarOf([
      { name: "t/", type: "directory" },
      { name: "t/a/one", content: "same" },
      { name: "t/b/two", type: "link", linkname: "t/a/one" },
    ]);
    await unpackTree(good, target, { ...options, name: "t" });
    const [one, two] = [await stat(path.join(target, "t/a/one")), await stat(path.join(target, "t/b/two"))];
    expect(one.ino).toBe(two.ino);
    const bad = tarOf([
      { name: "t/", type: "directory" },
      { name: "t/two", type: "link", linkname: "../outside/precious" },
    ]);
    await expect(unpackTree(bad, target, { ...options, name: "t" })).rejects.toMatchObject({
      code: "corrupt",
    });
  });

  it("refuses names that lead away", async () => {
    for (const name of ["t/../../outside/precious", "../outside/precious", "/etc/x"]) {
      const tar = tarOf([
        { name: "t/", type: "directory" },
        { name, content: "altered" },
      ]);
      await expect(unpackTree(tar, target, { ...options, name: "t" }), name).rejects.toMatchObject({
        code: "corrupt",
      });
    }
  });

  it("takes set-user-id bits away, and leaves devices out", async () => {
    const tar = tarOf([
      { name: "t/", type: "directory" },
      { name: "t/su", content: "x", mode: 0o4755 },
      { name: "t/disk", type: "block-device", devmajor: 8, devminor: 0 },
      { name: "t/pipe", type: "fifo" },
    ]);
    await unpackTree(tar, target, { ...options, name: "t" });
    expect((await stat(path.join(target, "t/su"))).mode & 0o7777).toBe(0o755);
    expect(skipped).toEqual(["t/disk", "t/pipe"]);
    expect(await readdir(path.join(target, "t"))).toEqual(["su"]);
  });

  it("does not replace a directory by a file", async () => {
    await mkdir(path.join(target, "t/f"), { recursive: true });
    const tar = tarOf([
      { name: "t/", type: "directory" },
      { name: "t/f", content: "x" },
    ]);
    await expect(unpackTree(tar, target, { ...options, name: "t" })).rejects.toThrow(
      "cannot unpack t/f: a file or a link is to go where a directory is",
    );
  });

  it("names the file that it could not write, not a path in /proc", async () => {
    const tar = tarOf([
      { name: "t/", type: "directory" },
      { name: `t/${"x".repeat(300)}`, content: "x" },
    ]);
    const error: Error = await unpackTree(tar, target, { ...options, name: "t" }).then(
      () => new Error("no error"),
      (failure) => failure,
    );
    expect(error.message).toContain(`cannot write ${target}/t/xxx`);
    expect(error.message).not.toContain("/proc/");
  });

  it("fails when the tar ends too early", async () => {
    const whole: Uint8Array[] = [];
    for await (const chunk of tarOf([{ name: "f", content: "x".repeat(100_000) }])) whole.push(chunk);
    const half = Buffer.concat(whole).subarray(0, 50_000);
    const cut = (async function* () {
      yield half;
    })();
    await expect(unpackTree(cut, target, { ...options, name: "f" })).rejects.toThrow();
    expect(await readdir(target)).toEqual([]);
  });
});
