import { createHash } from "node:crypto";
import { chmod, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cloneFile } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import type { Digest } from "@sporelet/page-image";
import { describe, expect, it } from "vitest";
import {
  openStore,
  type PublishedLayer,
  type SnapshotFile,
  type Store,
  type StoredSnapshot,
} from "./index.ts";
import { addChild, addSnapshot, description } from "./testing/snapshot.ts";

const page = 4096;

async function withStore(run: (store: Store, root: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, "store");
  await run(await openStore({ root }), root);
}

/** Two stores, as of two hosts. */
async function withTwo(run: (here: Store, there: Store) => Promise<void>): Promise<void> {
  await withStore((here) => withStore((there) => run(here, there)));
}

describe("a child", () => {
  it("knows how much of it is its own, and has the digests of what it is", () =>
    withStore(async (store) => {
      const base = await addSnapshot(store, "base");
      const child = await addChild(store, base, "child", { pages: 3 });
      expect(base.config.files.memory.ownBytes).toBe(base.config.files.memory.usedBytes);
      expect(child.config.files.memory).toMatchObject({ ownBytes: 3 * page, usedBytes: 4 * page });
      expect(child.config.files.disk).toMatchObject({ ownBytes: 0 });
      await store.verify("child");
    }));

  it("counts pages that it made zero among its own", () =>
    withStore(async (store) => {
      const base = await addSnapshot(store, "base");
      await using draft = await store.newSnapshot();
      for (const [file, source] of Object.entries(base.files)) {
        await cloneFile(source, join(draft.directory, file));
      }
      const memory = join(draft.directory, "memory");
      await truncate(memory, 0);
      await truncate(memory, description.shape.memoryBytes);
      const { config } = await draft.commit({ ...description, parent: base.digest }, "zeros");
      expect(config.files.memory).toMatchObject({ usedBytes: 0, ownBytes: page });
      await store.verify("zeros");
    }));

  it("whose author says what changed gets the same digests from it", () =>
    withStore(async (store) => {
      const base = await addSnapshot(store, "base");
      const { config } = await addChild(store, base, "found", { pages: 2 });
      await using draft = await store.newSnapshot();
      const { files } = await store.resolve("found");
      for (const [file, source] of Object.entries(files))
        await cloneFile(source, join(draft.directory, file));
      const changed = {
        memory: [
          { page: 1, count: 1 },
          { page: 3, count: 1 },
        ],
        disk: [],
      };
      const told = await draft.commit({ ...description, parent: base.digest, changed }, "told");
      expect(told.config.files).toEqual(config.files);
      expect(told.config).not.toHaveProperty("changed");
      await store.verify("told");
    }));

  it("is right even if the parent's chunk tables are gone, cut short, or of another image", () =>
    withStore(async (store) => {
      const base = await addSnapshot(store, "base");
      const { config } = await addChild(store, base, "child");
      const other = await addSnapshot(store, "other", { content: "something else" });
      const table = join(base.directory, "memory.chunks");
      await chmod(table, 0o600);
      for (const bytes of [Buffer.from("half"), await readFile(join(other.directory, "memory.chunks"))]) {
        await writeFile(table, bytes);
        expect((await addChild(store, base, "child")).config.files.memory).toEqual(config.files.memory);
      }
      await rm(table);
      expect((await addChild(store, base, "child")).config.files.memory).toEqual(config.files.memory);
      await store.verify("child");
    }));

  it("whose parent is not here counts all of it as its own", () =>
    withTwo(async (here, there) => {
      const base = await addSnapshot(here, "base");
      const { config } = await addChild(there, base, "child");
      expect(config.files.memory.ownBytes).toBe(config.files.memory.usedBytes);
      expect(config.parent).toBe(base.digest);
    }));
});

/** Puts a snapshot's files into a draft of another store. */
async function bring(snapshot: StoredSnapshot, to: Store) {
  const draft = await to.newSnapshot();
  for (const [file, source] of Object.entries(snapshot.files)) {
    await cloneFile(source, join(draft.directory, file));
  }
  return { draft, configBytes: await readFile(join(snapshot.directory, "config.json")) };
}

describe("a snapshot from elsewhere", () => {
  it("is the same snapshot here, byte for byte, and can have children", () =>
    withTwo(async (there, here) => {
      const original = await addChild(there, await addSnapshot(there, "base"), "app:1");
      const { draft, configBytes } = await bring(original, here);
      await using _ = draft;
      const adopted = await draft.adopt(configBytes, "registry.example/app:V1");
      expect(adopted.digest).toBe(original.digest);
      expect(adopted.config).toEqual(original.config);
      expect(adopted.tags).toEqual(["registry.example/app:V1"]);
      await here.check(adopted);
      await here.verify("registry.example/app:V1");
      expect((await addChild(here, adopted, "child")).config.files.memory.ownBytes).toBe(page);
    }));

  it("made from one that is here is compared with what that was verified to be, and with its own config", () =>
    withTwo(async (there, here) => {
      const base = await addSnapshot(there, "base");
      const original = await addChild(there, base, "app");
      const first = await bring(base, here);
      await using _first = first.draft;
      const known = await first.draft.adopt(first.configBytes);
      const second = await bring(original, here);
      await using _second = second.draft;
      const memory = await open(join(second.draft.directory, "memory"), "r+");
      await memory.write("!", 8 * page);
      await expect(second.draft.adopt(second.configBytes, "app", { base: known })).rejects.toMatchObject({
        code: "corrupt",
      });
      await memory.write("\0", 8 * page);
      await memory.close();
      const adopted = await second.draft.adopt(second.configBytes, "app", { base: known });
      expect(adopted.digest).toBe(original.digest);
      await here.verify("app");
    }));

  it("can be verified file by file, and what was written since is noticed", () =>
    withTwo(async (there, here) => {
      const original = await addSnapshot(there, "app");
      const { draft, configBytes } = await bring(original, here);
      await using _ = draft;
      for (const file of Object.keys(original.files) as SnapshotFile[])
        await draft.verify(file, original.config);
      await using memory = await open(join(draft.directory, "memory"), "r+");
      const { buffer } = await memory.read(Buffer.alloc(1), 0, 1, 0);
      await memory.write("!", 0);
      const damaged = { code: "corrupt", subject: "app:1" };
      await expect(draft.verify("memory", original.config, { name: "app:1" })).rejects.toMatchObject(damaged);
      await expect(draft.adopt(configBytes, "app", { name: "app:1" })).rejects.toMatchObject(damaged);
      await memory.write(buffer, 0, 1, 0);
      expect((await draft.adopt(configBytes, "app")).digest).toBe(original.digest);
      await here.verify("app");
      expect((await addChild(here, await here.resolve("app"), "child")).config.files.memory.ownBytes).toBe(
        page,
      );
    }));

  it("that is here already is the one that is here, with one more name", () =>
    withStore(async (store) => {
      const original = await addSnapshot(store, "app");
      const { draft, configBytes } = await bring(original, store);
      await using _ = draft;
      const adopted = await draft.adopt(configBytes, "again");
      expect(adopted).toEqual({ ...original, tags: ["again:latest", "app:latest"] });
      expect(await store.list()).toHaveLength(1);
    }));

  it.each<[string, SnapshotFile, (path: string) => Promise<void>, RegExp]>([
    ["another memory", "memory", (path) => writeFile(path, Buffer.alloc(1 << 20, 1)), /memory is not what/],
    ["a shorter disk", "disk", (path) => truncate(path, 1), /disk is not what/],
    ["more zeros at an end", "vmstate", (path) => truncate(path, 1 << 16), /vmstate is not what/],
    ["no kernel", "kernel", (path) => rm(path), /kernel is missing/],
    [
      "what the config does not name",
      "workingset",
      (path) => writeFile(path, "x"),
      /not name its file workingset/,
    ],
  ])("with %s is refused, and leaves nothing", (_, file, damage, reason) =>
    withTwo(async (there, here) => {
      {
        const { draft, configBytes } = await bring(await addSnapshot(there, "app"), here);
        await using _draft = draft;
        await damage(join(draft.directory, file));
        const refusal = { code: "corrupt", reason: expect.stringMatching(reason) };
        await expect(draft.verify(file, JSON.parse(String(configBytes)))).rejects.toMatchObject(refusal);
        await expect(draft.adopt(configBytes, "app")).rejects.toMatchObject(refusal);
      }
      expect(await here.list()).toEqual([]);
      await expect(here.resolve("app")).rejects.toMatchObject({ code: "not_found" });
    }),
  );

  it.each<[string, (config: Record<string, unknown>) => void, string]>([
    ["of an earlier format", (config) => (config.formatVersion = 1), "incompatible"],
    ["of a later format", (config) => (config.formatVersion = 3), "incompatible"],
    ["without a shape", (config) => delete config.shape, "corrupt"],
    ["with a parent that is a path", (config) => (config.parent = "sha256:../../x"), "corrupt"],
    ["with an absurd memory", (config) => set(config, "shape", { memoryBytes: 2 ** 60 }), "corrupt"],
    [
      "with a negative size",
      (config) => set(config, "files", { vmstate: record({ sizeBytes: -1 }) }),
      "corrupt",
    ],
    [
      "with no digest",
      (config) => set(config, "files", { vmstate: record({ digest: "sha256:0" }) }),
      "corrupt",
    ],
    ["with a MAC address that is more", (config) => set(config, "shape", { mac: "x,script=y" }), "corrupt"],
    [
      "with a machine type that is more",
      (config) => set(config, "vmm", { machineType: "q35,x=y" }),
      "corrupt",
    ],
    ["with a version for terminals", (config) => set(config, "vmm", { version: "7\u001b[31m" }), "corrupt"],
    ["with a port out of range", (config) => (config.ports = [{ guest: 70_000 }]), "corrupt"],
  ])("with a config %s is refused", (_, change, code) =>
    withTwo(async (there, here) => {
      const { draft, configBytes } = await bring(await addSnapshot(there, "app"), here);
      await using _draft = draft;
      const config = JSON.parse(configBytes.toString());
      change(config);
      await expect(draft.adopt(Buffer.from(JSON.stringify(config)), "app")).rejects.toMatchObject({ code });
      expect(await here.list()).toEqual([]);
    }),
  );

  it("whose config is no JSON, or no object, is refused", () =>
    withStore(async (store) => {
      await using draft = await store.newSnapshot();
      for (const text of ["", "{", "[]", "null", "7"]) {
        await expect(draft.adopt(Buffer.from(text))).rejects.toMatchObject({ code: "corrupt" });
      }
    }));
});

function set(config: Record<string, unknown>, name: string, fields: object): void {
  config[name] = { ...(config[name] as object), ...fields };
}

function record(fields: object) {
  return { digest: `sha256:${"0".repeat(64)}`, sizeBytes: 1, usedBytes: 1, ...fields };
}

describe("the history of a snapshot", () => {
  const layer = (file: SnapshotFile, sizeBytes: number): PublishedLayer => {
    const digest: Digest = `sha256:${createHash("sha256").update(`${file} ${sizeBytes}`).digest("hex")}`;
    return { file, sizeBytes, digest, mediaType: "m", annotations: {} };
  };
  const summary = async (store: Store, reference: string) =>
    (await store.history(reference)).map(({ digest, snapshot, publishedBytes }) => [
      digest,
      snapshot?.tags[0],
      publishedBytes,
    ]);

  it("goes down to its base", () =>
    withStore(async (store) => {
      const base = await addSnapshot(store, "base");
      const middle = await addChild(store, base, undefined);
      const top = await addChild(store, middle, "top");
      expect(await summary(store, "top")).toEqual([
        [top.digest, "top:latest", undefined],
        [middle.digest, undefined, undefined],
        [base.digest, "base:latest", undefined],
      ]);
    }));

  it("tells the published size of each, from its own publication or a descendant's", () =>
    withStore(async (store) => {
      const base = await addSnapshot(store, "base");
      const middle = await addChild(store, base, "middle");
      const top = await addChild(store, middle, "top");
      const layers = [
        ...[layer("memory", 100), layer("memory", 20), layer("memory", 3)],
        // The disk came with the second of them.
        ...[layer("disk", 4000), layer("disk", 500), layer("vmstate", 60_000)],
      ];
      await store.publications.set(top.digest, { layers, origins: [] });
      await store.publications.set(base.digest, { layers: [layer("memory", 7)], origins: [] });
      expect(await summary(store, "top")).toEqual([
        [top.digest, "top:latest", 60_503],
        [middle.digest, "middle:latest", 4020],
        [base.digest, "base:latest", 7],
      ]);
    }));

  it("of one that was pulled tells what is known of ancestors that are not here", () =>
    withTwo(async (there, here) => {
      const middle = await addChild(there, await addSnapshot(there, "base"), "middle");
      const { draft, configBytes } = await bring(await addChild(there, middle, "top"), here);
      await using _ = draft;
      const top = await draft.adopt(configBytes, "top");
      expect(await summary(here, "top")).toEqual([
        [top.digest, "top:latest", undefined],
        [middle.digest, undefined, undefined],
      ]);
      const layers = [layer("memory", 100), layer("memory", 20), layer("memory", 3), layer("vmstate", 1000)];
      await here.publications.set(top.digest, { layers, origins: ["registry.example/app"] });
      expect(await summary(here, "top")).toEqual([
        [top.digest, "top:latest", 1003],
        [middle.digest, undefined, 20],
        [undefined, undefined, 100],
      ]);
    }));

  it("of none is an error that says so", () =>
    withStore(async (store) => {
      await expect(store.history("nothing")).rejects.toMatchObject({ code: "not_found" });
    }));
});
