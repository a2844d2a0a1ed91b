import { execFile } from "node:child_process";
import {
  appendFile,
  chmod,
  mkdir,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { openStore, type Store } from "./index.ts";
import { addSnapshot, description } from "./testing/snapshot.ts";

async function withStore(run: (store: Store, root: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, "store");
  await run(await openStore({ root }), root);
}

describe("a snapshot", () => {
  it("is found by name, name and tag, digest and the beginning of the digest", () =>
    withStore(async (store) => {
      const stored = await addSnapshot(store, "shop/api");
      expect(stored.tags).toEqual(["shop/api:latest"]);
      for (const reference of ["shop/api", "shop/api:latest", stored.digest, stored.digest.slice(7, 19)]) {
        expect(await store.resolve(reference)).toEqual(stored);
      }
    }));

  it("knows its files, their digests and their sizes", () =>
    withStore(async (store) => {
      const { config, files } = await addSnapshot(store, "hello");
      expect(config.formatVersion).toBe(2);
      expect(config.files.memory).toMatchObject({ sizeBytes: 1024 * 1024, usedBytes: 4096, ownBytes: 4096 });
      expect(config.files.memory.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(await readFile(files.vmstate, "utf8")).toBe("vmstate of hello");
      const again = await openStore({ root: store.root });
      expect((await again.resolve("hello")).config).toEqual(config);
    }));

  it("may lack a disk and what boots it, but not its state", () =>
    withStore(async (store) => {
      expect((await addSnapshot(store, "layer0", { disk: false })).files.disk).toBeUndefined();
      await using draft = await store.newSnapshot();
      await writeFile(join(draft.directory, "memory"), "");
      await expect(draft.commit(description, "half")).rejects.toMatchObject({ code: "not_found" });
      await writeFile(join(draft.directory, "vmstate"), "v");
      const { files } = await draft.commit(description, "whole");
      expect(Object.keys(files)).toEqual(["memory", "vmstate"]);
    }));

  it("is for its owner alone, and its files cannot be written to", () =>
    withStore(async (store) => {
      const { directory, files } = await addSnapshot(store, "hello");
      expect((await stat(directory)).mode & 0o777).toBe(0o700);
      const memory = process.getuid?.() === 0 ? 0o400 : 0o600;
      expect((await stat(files.memory)).mode & 0o777).toBe(memory);
      for (const file of [
        files.vmstate,
        join(directory, "kernel"),
        join(directory, "config.json"),
        join(directory, "memory.chunks"),
        join(directory, "seal.json"),
      ]) {
        expect((await stat(file)).mode & 0o777).toBe(0o400);
      }
    }));

  it("leaves nothing when its draft is dropped", () =>
    withStore(async (store, root) => {
      {
        await using draft = await store.newSnapshot();
        await writeFile(join(draft.directory, "memory"), "x");
      }
      expect(await readdir(join(root, "tmp"))).toEqual([]);
      expect(await store.list()).toEqual([]);
    }));

  it("takes its name from an older one, which stays", () =>
    withStore(async (store) => {
      const old = await addSnapshot(store, "hello");
      const young = await addSnapshot(store, "hello", { content: "new" });
      expect((await store.resolve("hello")).digest).toBe(young.digest);
      expect((await store.resolve(old.digest)).tags).toEqual([]);
    }));

  it("that cannot be given its name is not stored at all", () =>
    withStore(async (store, root) => {
      await writeFile(join(root, "tags.json"), "{");
      await expect(addSnapshot(store, "hello")).rejects.toMatchObject({ code: "corrupt" });
      expect(await readdir(join(root, "snapshots"))).toEqual([]);
      expect(await readdir(join(root, "tmp"))).toEqual([]);
    }));

  it("whose removal a crash cut short is not found by its name", () =>
    withStore(async (store, root) => {
      const { directory } = await addSnapshot(store, "hello");
      await rm(directory, { recursive: true });
      await expect(store.resolve("hello")).rejects.toMatchObject({ code: "not_found" });
      expect(await store.list()).toEqual([]);
      expect((await addSnapshot(store, "hello", { content: "again" })).tags).toEqual(["hello:latest"]);
      expect(await readdir(join(root, "snapshots"))).toHaveLength(1);
    }));

  it("with a bad name fails before any work and keeps the draft", () =>
    withStore(async (store) => {
      await using draft = await store.newSnapshot();
      await expect(draft.commit(description, "../x")).rejects.toMatchObject({ code: "invalid_argument" });
    }));

  it("that is not there is reported with the nearest names", () =>
    withStore(async (store) => {
      await addSnapshot(store, "hello");
      await addSnapshot(store, "shop/api:2");
      await expect(store.resolve("helo")).rejects.toMatchObject({
        code: "not_found",
        hint: "did you mean hello?",
      });
      await expect(store.resolve("shop/api:3")).rejects.toMatchObject({ hint: "did you mean shop/api:2?" });
      await expect(store.resolve("zzz")).rejects.toMatchObject({
        hint: expect.stringContaining("sporectl build"),
      });
      const unknown = `sha256:${"0".repeat(64)}`;
      await expect(store.resolve(unknown)).rejects.toMatchObject({ code: "not_found" });
      await expect(store.resolve("0123456789ab")).rejects.toMatchObject({ code: "not_found" });
    }));

  it.each(["../../etc/passwd", "..", "/etc", "a/../b", "a:..", "a:b/c", "UPPER", "", ":", "a:", "sha256:12"])(
    "is not looked for under the name %j",
    (reference) =>
      withStore(async (store) => {
        await expect(store.resolve(reference)).rejects.toMatchObject({ code: "invalid_argument" });
        await expect(store.tag("x", reference)).rejects.toMatchObject({ code: "invalid_argument" });
      }),
  );
});

describe("names", () => {
  it("can be given and taken", () =>
    withStore(async (store) => {
      const { digest } = await addSnapshot(store, "hello");
      expect((await store.tag("hello", "other:1")).tags).toEqual(["hello:latest", "other:1"]);
      await store.untag("hello");
      expect((await store.resolve("other:1")).digest).toBe(digest);
      await expect(store.untag("hello")).rejects.toMatchObject({ code: "not_found" });
      await expect(store.untag(digest)).rejects.toMatchObject({ code: "invalid_argument" });
    }));

  it("given at the same time are all there", () =>
    withStore(async (store) => {
      await addSnapshot(store, "hello");
      await Promise.all(Array.from({ length: 20 }, (_, i) => store.tag("hello", `n${i}`)));
      expect((await store.resolve("n7")).tags).toHaveLength(21);
    }));

  it("in a damaged table are an error that says where", () =>
    withStore(async (store, root) => {
      await writeFile(join(root, "tags.json"), "{");
      await expect(store.resolve("hello")).rejects.toMatchObject({
        code: "corrupt",
        subject: join(root, "tags.json"),
      });
    }));
});

describe("removing", () => {
  it("takes one of several names, and with the last one the snapshot", () =>
    withStore(async (store, root) => {
      const { digest } = await addSnapshot(store, "hello");
      await store.tag("hello", "other");
      expect(await store.remove("hello")).toEqual({ digest, untagged: ["hello:latest"], removed: false });
      expect(await store.remove("other")).toEqual({ digest, untagged: ["other:latest"], removed: true });
      expect(await readdir(join(root, "snapshots"))).toEqual([]);
      expect(await readdir(join(root, "tmp"))).toEqual([]);
    }));

  it("by digest takes all names", () =>
    withStore(async (store) => {
      const { digest } = await addSnapshot(store, "hello");
      await store.tag("hello", "other");
      expect((await store.remove(digest)).untagged).toEqual(["hello:latest", "other:latest"]);
    }));

  it("is refused while machines use it, unless forced; open files stay valid", () =>
    withStore(async (store) => {
      const { files, digest } = await addSnapshot(store, "hello");
      const inUse = (asked: string) => (asked === digest ? ["clone-1", "clone-2"] : []);
      await expect(store.remove("hello", { inUse })).rejects.toMatchObject({
        code: "failed_precondition",
        reason: "it is used by clone-1, clone-2",
      });
      await using handle = await open(files.vmstate, "r");
      expect((await store.remove("hello", { inUse, force: true })).removed).toBe(true);
      expect(await handle.readFile("utf8")).toBe("vmstate of hello");
    }));
});

describe("checking", () => {
  it("passes for what was stored", () =>
    withStore(async (store) => {
      const stored = await addSnapshot(store, "hello");
      await store.check(stored);
      await store.verify("hello");
    }));

  it("notices a file that is missing, shorter, or was written to", () =>
    withStore(async (store) => {
      const corrupt = (reason: RegExp) => ({ code: "corrupt", reason: expect.stringMatching(reason) });
      const one = await addSnapshot(store, "one");
      await rm(join(one.directory, "kernel"));
      await expect(store.check(one)).rejects.toMatchObject(corrupt(/kernel is missing/));
      const two = await addSnapshot(store, "two");
      await truncate(two.files.memory, 100);
      await expect(store.check(two)).rejects.toMatchObject(
        corrupt(/memory has 100 bytes instead of 1048576/),
      );
      const three = await addSnapshot(store, "three");
      await utimes(three.files.vmstate, 1, 1);
      await expect(store.check(three)).rejects.toMatchObject(corrupt(/vmstate was written to/));
    }));

  it("in full notices one changed byte even if size and times are right", () =>
    withStore(async (store) => {
      const { files, directory } = await addSnapshot(store, "hello");
      const { atime, mtime } = await stat(files.memory);
      await chmod(files.memory, 0o600);
      await using handle = await open(files.memory, "r+");
      await handle.write("!", 500_000);
      await utimes(files.memory, atime, mtime);
      await expect(store.verify("hello")).rejects.toMatchObject({ code: "corrupt", reason: /memory/ });
      await chmod(join(directory, "config.json"), 0o600);
      await appendFile(join(directory, "config.json"), "\n");
      await expect(store.verify("hello")).rejects.toMatchObject({ code: "corrupt", reason: /config.json/ });
    }));

  it("refuses what an earlier Sporelet stored, says what to do, and lets it be removed", () =>
    withStore(async (store) => {
      const { directory, digest } = await addSnapshot(store, "old");
      const path = join(directory, "config.json");
      const config = JSON.parse(await readFile(path, "utf8"));
      await chmod(path, 0o600);
      await writeFile(path, JSON.stringify({ ...config, formatVersion: 1 }));
      await expect(store.resolve("old")).rejects.toMatchObject({
        code: "incompatible",
        reason: "it has format version 1, of an earlier Sporelet",
        hint: expect.stringContaining("build it again"),
      });
      expect(await store.remove("old")).toMatchObject({ digest, removed: true });
    }));

  it("lists what is whole, and reports what is not", () =>
    withStore(async (store) => {
      const whole = await addSnapshot(store, "whole");
      const broken = await addSnapshot(store, "broken");
      await chmod(join(broken.directory, "config.json"), 0o600);
      await writeFile(join(broken.directory, "config.json"), "{");
      const problems: string[] = [];
      expect(await store.list((error) => problems.push(error.code))).toEqual([whole]);
      expect(problems).toEqual(["corrupt"]);
      await expect(store.list()).rejects.toMatchObject({ code: "corrupt" });
    }));
});

describe("machine directories", () => {
  it("are made once, listed and removed", () =>
    withStore(async (store) => {
      const directory = await store.machines.create("m1");
      expect((await stat(directory)).mode & 0o777).toBe(0o700);
      await writeFile(join(directory, "disk"), "x");
      await expect(store.machines.create("m1")).rejects.toMatchObject({ code: "already_exists" });
      expect(await store.machines.list()).toEqual(["m1"]);
      await store.machines.remove("m1");
      await store.machines.remove("m1");
      expect(await store.machines.list()).toEqual([]);
    }));

  it.each(["..", "../x", "a/b", "", ".hidden", "x".repeat(200)])("cannot have the id %j", (id) =>
    withStore(async (store) => {
      await expect(store.machines.create(id)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(store.machines.remove(id)).rejects.toMatchObject({ code: "invalid_argument" });
    }),
  );
});

describe("a store", () => {
  it("of a later version is refused", () =>
    withStore(async (_, root) => {
      await writeFile(join(root, "store.json"), '{ "formatVersion": 2 }');
      await expect(openStore({ root })).rejects.toMatchObject({ code: "incompatible" });
    }));

  it("is swept of what ended processes left, not of what is being made", () =>
    withStore(async (store, root) => {
      const { stdout } = await promisify(execFile)("sh", ["-c", "echo $$"]);
      const stale = `${stdout.trim()}-1-abc`;
      await mkdir(join(root, "tmp", stale, "deep"), { recursive: true });
      await mkdir(join(root, "tmp", "rubbish"));
      await using draft = await store.newSnapshot();
      expect((await store.sweep()).sort()).toEqual([stale, "rubbish"].sort());
      expect(await readdir(draft.directory)).toEqual([]);
    }));

  it("is swept of files that crashes left, once they are old", () =>
    withStore(async (store, root) => {
      const { digest } = await addSnapshot(store, "hello");
      await store.publications.set(digest, { layers: [], origins: [] });
      const gone = `${"0".repeat(64)}.json`;
      const paths = [".tags.json.0123abcd.tmp", join("publications", gone)].map((name) => join(root, name));
      for (const path of paths) await writeFile(path, "{}");
      expect(await store.sweep()).toEqual([]);
      const old = new Date(Date.now() - 2 * 3_600_000);
      for (const path of [...paths, join(root, "tags.json")]) await utimes(path, old, old);
      await utimes(join(root, "publications", `${digest.slice(7)}.json`), old, old);
      expect(await store.sweep()).toEqual([".tags.json.0123abcd.tmp", gone]);
      expect((await store.resolve("hello")).digest).toBe(digest);
      expect(await store.publications.get(digest)).toEqual({ layers: [], origins: [] });
    }));
});
