import { mkdir, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mountXfs, temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import type { Digest } from "@sporelet/page-image";
import { describe, expect, it, type TestContext } from "vitest";
import { type Collected, openStore, type Residents, type Store } from "../index.ts";
import { addChild, addSnapshot } from "../testing/snapshot.ts";

const block = 4096;
const day = 86_400_000;
const nobody: Residents = { inUse: () => [] };
const digest = (digits: string): Digest => `sha256:${digits.padEnd(64, "0")}`;

async function withStore(run: (store: Store, root: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, "store");
  await run(await openStore({ root }), root);
}

/** On a file system that shares blocks between files, and says so. */
async function onXfs(
  context: TestContext,
  run: (store: Store, root: string) => Promise<void>,
): Promise<void> {
  const reason = whyNoMounts();
  if (reason) context.skip(reason);
  await using xfs = await mountXfs();
  const root = join(xfs.path, "store");
  await run(await openStore({ root }), root);
}

/** A blob that was last used some days ago. */
async function addBlob(store: Store, name: Digest, { days = 0, blocks = 1 } = {}): Promise<void> {
  const file = await store.blobs.partial(name);
  await writeFile(file, Buffer.alloc(blocks * block, 1));
  await store.blobs.put(file, name);
  await age(store.blobs.path(name), days);
}

async function age(path: string, days: number): Promise<void> {
  const time = new Date(Date.now() - days * day);
  await utimes(path, time, time);
}

/** The same as the command does: in a new process nothing is known to have been used but by its time of change. */
const reopened = (root: string) => openStore({ root });

const idsOf = ({ removed }: Collected) => removed.map(({ id }) => id);

describe("sizes", () => {
  it("count blocks once that a child shares with its parent", (context) =>
    onXfs(context, async (store) => {
      const base = await addSnapshot(store, "base");
      const alone = (await store.entries(nobody)).entries[0];
      const child = await addChild(store, base, "child", { pages: 3 });
      const { entries, exact } = await store.entries(nobody);
      expect(exact).toBe(true);
      const [parentEntry, childEntry] = [base, child].map(({ digest }) =>
        entries.find(({ id }) => id === digest),
      );
      // Memory with one page, disk, kernel and initramfs are the same; vmstate, config, seal and tables are not.
      const shared = 4 * block;
      expect(parentEntry?.totalBytes).toBe(alone?.totalBytes);
      expect(parentEntry?.ownBytes).toBe((alone?.totalBytes ?? 0) - shared);
      expect(childEntry?.ownBytes).toBe((childEntry?.totalBytes ?? 0) - shared);
      // Three pages, and not what the file system keeps free around them for a while.
      expect(childEntry?.totalBytes).toBe((alone?.totalBytes ?? 0) + 3 * block);
      const usage = await store.usage(nobody);
      const sum = (parentEntry?.totalBytes ?? 0) + (childEntry?.ownBytes ?? 0);
      expect(usage.totalBytes).toBe(sum);
      expect(usage.kinds.find(({ kind }) => kind === "snapshot")).toMatchObject({ count: 2, bytes: sum });
      expect(usage.capacityBytes).toBeGreaterThan(usage.freeBytes);
    }));

  it("say how much of a removal is freed, and that much is", (context) =>
    onXfs(context, async (store) => {
      const base = await addSnapshot(store, "base");
      await addChild(store, base, undefined, { content: "one", pages: 40 });
      await addChild(store, base, undefined, { content: "two", pages: 20 });
      const before = await store.usage(nobody);
      const dry = await store.collect({ ...nobody, dryRun: true });
      expect((await store.usage(nobody)).totalBytes).toBe(before.totalBytes);
      const run = await store.collect(nobody);
      expect(run).toEqual(dry);
      expect(run.freedBytes).toBeGreaterThanOrEqual(60 * block);
      const after = await store.usage(nobody);
      expect(after.totalBytes).toBe(before.totalBytes - run.freedBytes);
      const reclaimable = before.kinds.find(({ kind }) => kind === "snapshot")?.reclaimableBytes;
      expect(reclaimable).toBe(run.freedBytes);
    }));

  it("count each file in full where the file system does not tell, and say so", async () => {
    const root = join("/dev/shm", `sporelet-test-store-${process.pid}`);
    await using _ = { [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
    const store = await openStore({ root });
    await addBlob(store, digest("1"), { blocks: 5 });
    const { entries, exact } = await store.entries(nobody);
    expect(exact).toBe(false);
    expect(entries).toMatchObject([{ kind: "blob", ownBytes: 5 * block, totalBytes: 5 * block }]);
    expect((await store.usage(nobody)).exact).toBe(false);
    expect((await store.collect(nobody)).exact).toBe(false);
  });
});

describe("the list of what takes space", () => {
  it("has everything, what it is, and why it stays", () =>
    withStore(async (store, root) => {
      const base = await addSnapshot(store, undefined);
      const child = await addChild(store, base, "shop:2");
      const key = "k".repeat(64);
      await store.cache.getOrCreate("rootfs", key, (into) => writeFile(join(into, "disk"), "content"));
      await addBlob(store, digest("b10b"));
      await writeFile(await store.blobs.partial(digest("9a57")), "some");
      await store.publications.set(child.digest, {
        layers: [
          { file: "memory", mediaType: "m", digest: digest("b10b"), sizeBytes: block, annotations: {} },
        ],
        origins: [],
      });
      await store.machines.create("m1");
      await mkdir(join(root, "lazy", digest("1a2").slice(7)), { recursive: true });
      const residents: Residents = {
        inUse: (asked) => (asked === child.digest ? ["web-1"] : []),
        nameOf: (id) => (id === "m1" ? "web-1" : undefined),
      };
      using _ = store.lease(digest("b10b"), "push to registry.example/shop");
      const { entries } = await store.entries(residents);
      const summary = entries.map(({ kind, id, names, keptBy }) => ({ kind, id, names, keptBy }));
      expect(new Set(summary)).toEqual(
        new Set([
          {
            kind: "snapshot",
            id: base.digest,
            names: [],
            keptBy: [`child ${child.digest.slice(7, 19)}`],
          },
          {
            kind: "snapshot",
            id: child.digest,
            names: ["shop:2"],
            keptBy: ["tag shop:2", "machine web-1"],
          },
          { kind: "build", id: `rootfs/${key}`, names: [], keptBy: [] },
          {
            kind: "blob",
            id: digest("b10b"),
            names: ["memory of shop:2"],
            keptBy: ["push to registry.example/shop"],
          },
          { kind: "partial", id: digest("9a57"), names: [], keptBy: [] },
          { kind: "partial", id: digest("1a2"), names: [], keptBy: ["what is being fetched"] },
          { kind: "machine", id: "m1", names: ["web-1"], keptBy: ["machine web-1"] },
        ]),
      );
    }));
});

describe("collecting", () => {
  it("takes what nothing needs, in order, and leaves all that something does", () =>
    withStore(async (store, root) => {
      const kept = await addSnapshot(store, "kept");
      const base = await addSnapshot(store, undefined, { content: "base" });
      const running = await addChild(store, base, undefined, { content: "running" });
      const leased = await addSnapshot(store, undefined, { content: "leased" });
      const parent = await addSnapshot(store, undefined, { content: "parent" });
      const child = await addChild(store, parent, undefined, { content: "child" });
      const old = await addSnapshot(store, undefined, { content: "old" });
      await age(old.directory, 3);
      const build = await store.cache.getOrCreate("rootfs", "key", (into) => mkdir(join(into, "deep")));
      await addBlob(store, digest("1"), { days: 1 });
      await addBlob(store, digest("2"), { days: 2 });
      await store.publications.set(old.digest, { layers: [], origins: [] });
      const store2 = await reopened(root);
      using _ = store2.lease(leased.digest, "push");
      const inUse = (asked: Digest) => (asked === running.digest ? ["stopped-1"] : []);

      const collected = await store2.collect({ inUse });
      expect(idsOf(collected)).toEqual([
        digest("2"),
        digest("1"),
        "rootfs/key",
        old.digest,
        child.digest,
        parent.digest,
      ]);
      const left = (await store2.list()).map((each) => each.digest);
      expect(new Set(left)).toEqual(new Set([kept.digest, base.digest, running.digest, leased.digest]));
      expect(await readdir(join(build.directory, ".."))).toEqual([]);
      expect(await readdir(join(root, "blobs"))).toEqual([]);
      expect(await readdir(join(root, "publications"))).toEqual([]);
      expect(await readdir(join(root, "tmp"))).toEqual([]);
      for (const { digest } of await store2.list()) await store2.verify(digest);
    }));

  it("respects age, and a parent is as young as its children", () =>
    withStore(async (store, root) => {
      const parent = await addSnapshot(store, undefined, { content: "parent" });
      const child = await addChild(store, parent, undefined, { content: "child" });
      await age(parent.directory, 20);
      await age(child.directory, 2);
      await addBlob(store, digest("1"), { days: 8 });
      await addBlob(store, digest("2"), { days: 6 });
      const reopenedStore = await reopened(root);
      expect(idsOf(await reopenedStore.collect({ ...nobody, maxAgeMs: 7 * day }))).toEqual([digest("1")]);
      expect(idsOf(await reopenedStore.collect({ ...nobody, maxAgeMs: day }))).toEqual([
        digest("2"),
        child.digest,
        parent.digest,
      ]);
    }));

  it("ends when the store is small enough", () =>
    withStore(async (store) => {
      for (const [i, blocks] of [5, 10, 20].entries()) {
        await addBlob(store, digest(String(i)), { days: 9 - i, blocks });
      }
      const { totalBytes } = await store.usage(nobody);
      expect(idsOf(await store.collect({ ...nobody, maxBytes: totalBytes }))).toEqual([]);
      const collected = await store.collect({ ...nobody, maxBytes: totalBytes - 6 * block });
      expect(idsOf(collected)).toEqual([digest("0"), digest("1")]);
      expect(collected.freedBytes).toBe(15 * block);
    }));

  it("throws away what has arrived of a blob after a day without any more", () =>
    withStore(async (store, root) => {
      for (const [digits, days] of [
        ["1", 0.5],
        ["2", 1.5],
      ] as const) {
        const path = await store.blobs.partial(digest(digits));
        await writeFile(path, "some");
        await age(path, days);
      }
      expect(idsOf(await store.collect({ ...nobody, maxAgeMs: 30 * day }))).toEqual([digest("2")]);
      expect(await readdir(join(root, "partial"))).toEqual([digest("1").slice(7)]);
    }));

  it("takes a snapshot that cannot be read when it has no name", () =>
    withStore(async (store, root) => {
      const { digest: broken, directory } = await addSnapshot(store, undefined);
      await rm(join(directory, "config.json"));
      await writeFile(join(directory, "config.json"), "{");
      expect(idsOf(await (await reopened(root)).collect(nobody))).toEqual([broken]);
    }));

  it("leaves alone what is used while it plans", () =>
    withStore(async (store, root) => {
      const { digest: snapshot } = await addSnapshot(store, undefined);
      await addBlob(store, digest("1"), { days: 2 });
      await store.cache.getOrCreate("rootfs", "key", async () => {});
      const other = await reopened(root);
      // Asked when the inventory was taken already, and at the start of each removal again.
      let asked = 0;
      const leases: Disposable[] = [];
      const inUse = () => {
        if (asked++ === 0) {
          leases.push(other.lease(undefined, "work"));
          void other.blobs.has(digest("1"));
          leases.push(other.lease(snapshot, "run"));
        }
        return [];
      };
      const collected = await other.collect({ inUse });
      expect(idsOf(collected)).toEqual(["rootfs/key"]);
      for (const lease of leases) lease[Symbol.dispose]();
    }));
});

describe("removing by id", () => {
  it("takes snapshots with their names and children in one call, children first", () =>
    withStore(async (store, root) => {
      const parent = await addSnapshot(store, "parent");
      const child = await addChild(store, parent, "child");
      const ids = [parent.digest.slice(7, 19), child.digest];
      const dry = await store.discard(ids, { ...nobody, dryRun: true });
      expect(idsOf(dry)).toEqual([child.digest, parent.digest]);
      expect(await store.list()).toHaveLength(2);
      expect(await store.discard(ids, nobody)).toEqual(dry);
      expect(await store.list()).toEqual([]);
      await expect(store.resolve("parent")).rejects.toMatchObject({ code: "not_found" });
      expect(await readdir(join(root, "tmp"))).toEqual([]);
    }));

  it("is refused as a whole when something needs one of them", () =>
    withStore(async (store) => {
      const parent = await addSnapshot(store, "parent");
      const child = await addChild(store, parent, "child");
      await addBlob(store, digest("1"));
      await expect(store.discard([digest("1"), parent.digest], nobody)).rejects.toMatchObject({
        code: "failed_precondition",
        reason: `it is needed by child ${child.digest.slice(7, 19)}`,
      });
      const inUse = (asked: Digest) => (asked === child.digest ? ["web-1"] : []);
      await expect(store.discard([child.digest], { inUse })).rejects.toMatchObject({
        reason: "it is needed by machine web-1",
      });
      using _ = store.lease(digest("1"), "pull of shop");
      await expect(store.discard([digest("1")], nobody)).rejects.toMatchObject({
        reason: "it is needed by pull of shop",
      });
      await store.machines.create("0123456789ab");
      await expect(store.discard(["0123456789ab"], nobody)).rejects.toMatchObject({
        hint: "sporectl rm 0123456789ab",
      });
      expect(await store.blobs.has(digest("1"))).toBe(true);
      expect(await store.list()).toHaveLength(2);
    }));

  it("understands beginnings that are long enough and unique", () =>
    withStore(async (store) => {
      await store.cache.getOrCreate("rootfs", "abcdef1", async () => {});
      await store.cache.getOrCreate("rootfs", "abcdef2", async () => {});
      const wrong = (id: string) => expect(store.discard([id], nobody)).rejects;
      await wrong("abcdef").toMatchObject({ code: "invalid_argument", reason: /2 ids begin so/ });
      await wrong("abc").toMatchObject({ code: "not_found" });
      await wrong("").toMatchObject({ code: "not_found" });
      await wrong("../../etc").toMatchObject({ code: "not_found" });
      expect(idsOf(await store.discard(["rootfs/abcdef1"], nobody))).toEqual(["rootfs/abcdef1"]);
      expect(idsOf(await store.discard(["abcd"], nobody))).toEqual(["rootfs/abcdef2"]);
    }));
});

describe("removing a snapshot that is needed", () => {
  it("as a parent is refused with the children's names, unless forced; they stay whole", () =>
    withStore(async (store) => {
      const parent = await addSnapshot(store, "parent");
      const child = await addChild(store, parent, "child");
      await addChild(store, parent, undefined, { content: "nobody needs this one" });
      await expect(store.remove("parent")).rejects.toMatchObject({
        code: "failed_precondition",
        reason: "it is the parent of child:latest",
      });
      const dry = await store.remove("parent", { force: true, dryRun: true });
      expect((await store.resolve("parent")).digest).toBe(parent.digest);
      expect(await store.remove("parent", { force: true })).toEqual(dry);
      await store.verify(child.digest);
    }));

  it("is refused while something works with it, unless forced", () =>
    withStore(async (store) => {
      const { digest: pushed } = await addSnapshot(store, "app");
      using _ = store.lease(pushed, "push to registry.example/app");
      await expect(store.remove("app")).rejects.toMatchObject({
        code: "failed_precondition",
        reason: "it is used by push to registry.example/app",
        hint: "wait until that has ended, or force it",
      });
      expect((await store.remove("app", { force: true })).removed).toBe(true);
    }));

  it("takes a name away when it has others, children or not", () =>
    withStore(async (store) => {
      const parent = await addSnapshot(store, "parent");
      await store.tag("parent", "other");
      await addChild(store, parent, "child");
      expect(await store.remove("parent")).toMatchObject({ untagged: ["parent:latest"], removed: false });
    }));

  it("goes when nothing keeps the children", () =>
    withStore(async (store) => {
      const parent = await addSnapshot(store, "parent");
      await addChild(store, parent, undefined);
      expect((await store.remove("parent")).removed).toBe(true);
    }));
});
