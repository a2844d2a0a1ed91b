import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runProcess } from "@sporelet/host";
import { temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import type { Digest } from "@sporelet/page-image";
import { expect, it } from "vitest";
import { openStore, type Store } from "../index.ts";
import { startAndKill } from "../testing/killed.ts";
import { addChild, addSnapshot } from "../testing/snapshot.ts";

const rounds = 100;

/** That all which can be seen is whole. */
async function expectWhole(store: Store, root: string): Promise<void> {
  const snapshots = await store.list();
  for (const snapshot of snapshots) await store.check(snapshot);
  const names: string[] = Object.keys(JSON.parse(await readFile(join(root, "tags.json"), "utf8")).tags);
  for (const name of names) await store.resolve(name); // No name without a snapshot.
  for (const hex of await readdir(join(root, "blobs"))) {
    expect(await readFile(join(root, "blobs", hex), "utf8")).toBe(`blob sha256:${hex}`);
  }
  await mkdir(join(root, "cache", "rootfs"), { recursive: true });
  for (const key of await readdir(join(root, "cache", "rootfs"))) {
    expect(await readFile(join(root, "cache", "rootfs", key, "disk"), "utf8")).toBe(`disk ${key}`);
  }
}

it("a process killed while it collects leaves a whole store, with all that is needed", async () => {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, "store");
  const store = await openStore({ root });
  const base = await addSnapshot(store, undefined, { content: "base" });
  const middle = await addChild(store, base, undefined, { content: "middle" });
  const kept = await addChild(store, middle, "kept");
  await store.publications.set(kept.digest, { layers: [], origins: ["registry.example/kept"] });
  const partial: Digest = `sha256:${"f".repeat(64)}`;
  await writeFile(await store.blobs.partial(partial), "some");
  let seed = 1;
  let interrupted = 0;
  for (let round = 0; round < rounds; round++) {
    seed = (seed * 48_271) % 0x7fffffff; // Park and Miller's generator: the same instants each time.
    await startAndKill(new URL("../testing/collector.ts", import.meta.url), root, seed / 0x7fffffff);

    const next = await openStore({ root });
    if ((await next.sweep()).length > 0) interrupted++;
    expect(await readdir(join(root, "tmp"))).toEqual([]);
    await expectWhole(next, root);
    expect(await next.resolve("kept")).toEqual(kept);
    expect((await next.history("kept")).map(({ snapshot }) => snapshot)).toEqual([kept, middle, base]);
    expect((await next.publications.get(kept.digest))?.origins).toEqual(["registry.example/kept"]);
    expect(await readFile(await next.blobs.partial(partial), "utf8")).toBe("some");
  }
  expect(interrupted).toBeGreaterThan(0); // Some kills came in the middle of a removal.
  // What they left goes with the next collection.
  await store.collect({ inUse: () => [] });
  for (const { digest, tags } of await store.list()) {
    await store.verify(digest);
    if (tags.length === 0) expect([base.digest, middle.digest]).toContain(digest);
  }
}, 900_000); // Each round starts a process, which on a busy host takes seconds.

it("a full disk is no obstacle to collecting and removing", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using directory = await temporaryDirectory();
  const operation = "prepare a full disk for a test";
  await using mounted = new AsyncDisposableStack();
  await runProcess(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory.path], { operation });
  mounted.defer(async () => void (await runProcess(["umount", directory.path], { operation })));
  const root = join(directory.path, "store");
  const store = await openStore({ root });
  const nobody = { inUse: () => [] };
  const kept = await addSnapshot(store, "kept");
  const named = await addSnapshot(store, "named");
  const unnamed = await addSnapshot(store, undefined);
  const fill = (name: string) =>
    runProcess(["dd", "if=/dev/zero", `of=${join(directory.path, name)}`, "bs=4096"], {
      operation,
      ok: [1], // dd says that the disk is full, which is the point.
    });

  await fill("one");
  expect((await store.collect(nobody)).removed.map(({ id }) => id)).toEqual([unnamed.digest]);
  await fill("two");
  expect((await store.discard([named.digest], nobody)).removed.map(({ id }) => id)).toEqual([named.digest]);
  await expect(store.resolve("named")).rejects.toMatchObject({ code: "not_found" });
  expect(await store.list()).toEqual([kept]);
  await store.verify("kept");
});
