import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type FakeNode, startFakeNode } from "../testing/fake-node.ts";
import { runForTest } from "../testing/run.ts";

let node: FakeNode;
let cwd: string;

beforeEach(async () => {
  node = await startFakeNode();
  cwd = await mkdtemp(path.join(os.tmpdir(), "sporectl-cwd-"));
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  await rm(cwd, { recursive: true });
});

const cp = (...args: string[]) => runForTest(["cp", ...args], { home: node.home, cwd });
const guest = (file: string) => path.join(node.guestRoot, file);

describe("sporectl cp", () => {
  it("copies a file there and back, byte for byte", async () => {
    const data = randomBytes(3_000_001);
    await writeFile(path.join(cwd, "data"), data, { mode: 0o600 });
    expect(await cp("data", "hello-1:/")).toMatchObject({ code: 0, stderr: "" });
    expect(await cp("hello-1:data", "back")).toMatchObject({ code: 0 });
    expect((await readFile(path.join(cwd, "back"))).equals(data)).toBe(true);
    expect((await lstat(path.join(cwd, "back"))).mode & 0o777).toBe(0o600);
  });

  it("copies a tree into an existing directory, and its contents with /.", async () => {
    await mkdir(path.join(cwd, "app/sub"), { recursive: true });
    await writeFile(path.join(cwd, "app/sub/f"), "1");
    await symlink("sub/f", path.join(cwd, "app/link"));
    await mkdir(guest("srv"));
    expect(await cp("app", "hello-1:/srv")).toMatchObject({ code: 0 });
    expect(await cp("app/.", "hello-1:/srv")).toMatchObject({ code: 0 });
    expect(await cp("app", "hello-1:/srv/renamed")).toMatchObject({ code: 0 });
    expect((await readdir(guest("srv"))).sort()).toEqual(["app", "link", "renamed", "sub"]);
    expect(await readlink(guest("srv/renamed/link"))).toBe("sub/f");
  });

  it("writes through a link on this host to what it points to", async () => {
    await writeFile(guest("f"), "new");
    await writeFile(path.join(cwd, "real"), "old");
    await symlink("real", path.join(cwd, "link"));
    expect(await cp("hello-1:/f", "link")).toMatchObject({ code: 0 });
    expect(await readFile(path.join(cwd, "real"), "utf8")).toBe("new");
    expect((await lstat(path.join(cwd, "link"))).isSymbolicLink()).toBe(true);
  });

  it("writes and reads tar streams with -", async () => {
    await mkdir(guest("logs"));
    await writeFile(guest("logs/a"), "A");
    const out = await cp("hello-1:/logs", "-");
    expect(spawnSync("tar", ["-t"], { input: out.stdout }).stdout.toString()).toBe("logs/\nlogs/a\n");
    await mkdir(guest("copy"));
    const back = await runForTest(["cp", "-", "hello-1:/copy"], { home: node.home, cwd, stdin: out.stdout });
    expect(back).toMatchObject({ code: 0 });
    expect(await readFile(guest("copy/logs/a"), "utf8")).toBe("A");
  });

  it.each([
    [["nothing", "hello-1:/"], 3, "nothing does not exist"],
    [["hello-1:/nothing", "."], 3, "/nothing does not exist"],
    [["hello-1:/", "hello-2:/"], 2, "exactly one of SRC and DST"],
    [["a", "b"], 2, "exactly one of SRC and DST"],
    [["-", "hello-1:/nowhere"], 5, "mkdir -p /nowhere"],
    [["hello-1:", "."], 2, "names no path"],
    [["nobody:/x", "."], 3, "nobody"],
  ])("refuses %j", async (args, code, message) => {
    const result = await cp(...args);
    expect(result.stderr).toContain(message);
    expect(result.code).toBe(code);
  });
});
