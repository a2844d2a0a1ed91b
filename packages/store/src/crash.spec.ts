import { randomUUID } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runProcess } from "@sporelet/host";
import { temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import { expect, it } from "vitest";
import { cacheKey, openStore } from "./index.ts";
import { startAndKill } from "./testing/killed.ts";
import { addSnapshot, description } from "./testing/snapshot.ts";

const rounds = 50;

it("a process killed while it stores snapshots leaves whole ones only, and the old ones as they were", async () => {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, "store");
  const store = await openStore({ root });
  const old = await addSnapshot(store, "old");
  let seed = 1;
  let interrupted = 0;
  for (let round = 0; round < rounds; round++) {
    seed = (seed * 48_271) % 0x7fffffff; // Park and Miller's generator: the same instants each time.
    await startAndKill(new URL("./testing/committer.ts", import.meta.url), root, seed / 0x7fffffff);

    const next = await openStore({ root });
    if ((await next.sweep()).length > 0) interrupted++;
    expect(await readdir(join(root, "tmp"))).toEqual([]);
    expect(await next.resolve("old")).toEqual(old);
    for (const snapshot of await next.list()) {
      await next.check(snapshot);
      for (const tag of snapshot.tags) expect((await next.resolve(tag)).digest).toBe(snapshot.digest);
    }
    const names: string[] = Object.keys(JSON.parse(await readFile(join(root, "tags.json"), "utf8")).tags);
    for (const name of names) await next.resolve(name); // No name without a snapshot.
  }
  expect(interrupted).toBeGreaterThan(0); // Some kills came in the middle,
  const all = await store.list();
  expect(all.length).toBeGreaterThan(1); // and some after a commit.
  for (const { digest } of all) await store.verify(digest);
});

it("a full disk is an error that says so, and takes nothing that was there", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using directory = await temporaryDirectory();
  const operation = "prepare a full disk for a test";
  await using mounted = new AsyncDisposableStack();
  await runProcess(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory.path], { operation });
  mounted.defer(async () => void (await runProcess(["umount", directory.path], { operation })));
  const root = join(directory.path, "store");
  const store = await openStore({ root });
  const old = await addSnapshot(store, "old");

  {
    await using draft = await store.newSnapshot();
    for (const file of ["memory", "vmstate", "kernel", "initramfs"])
      await writeFile(join(draft.directory, file), "x");
    await fillUp(directory.path);
    const commit = draft.commit(description, "new");
    await expect(commit).rejects.toMatchObject({ code: "resource_exhausted", hint: "free some space" });
  }
  expect(await readdir(join(root, "tmp"))).toEqual([]);
  expect(await store.list()).toEqual([old]);
  await store.verify("old");

  await fillUp(directory.path); // What the draft has given back.
  await expect(store.tag("old", "more")).rejects.toMatchObject({ code: "resource_exhausted" });
  const creation = store.cache.getOrCreate("rootfs", cacheKey("big"), (into) =>
    writeFile(join(into, "big"), "x"),
  );
  await expect(creation).rejects.toMatchObject({ code: "resource_exhausted" });
  expect(await readdir(join(root, "tmp"))).toEqual([]);
  expect((await store.resolve("old")).tags).toEqual(["old:latest"]);

  // Removing works, and makes room.
  expect(await store.remove("old")).toMatchObject({ untagged: ["old:latest"], removed: true });
  expect(await store.list()).toEqual([]);
  expect((await addSnapshot(store, "new", { disk: false })).tags).toEqual(["new:latest"]);
});

/** Takes all that is left, to the last byte. */
async function fillUp(directory: string): Promise<void> {
  await runProcess(["dd", "if=/dev/zero", `of=${join(directory, `fill-${randomUUID()}`)}`, "bs=4096"], {
    operation: "fill a disk for a test",
    ok: [1], // dd says that the disk is full, which is the point.
  });
}
