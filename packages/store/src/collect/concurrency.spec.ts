import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { cloneFile } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import type { Digest } from "@sporelet/page-image";
import { expect, it } from "vitest";
import { openStore, type Store } from "../index.ts";
import { addChild, addSnapshot, description } from "../testing/snapshot.ts";

const rounds = 25;

/** Waits for some file system work of other tasks, as a transfer or a guest would. */
async function someWork(): Promise<void> {
  for (let i = 0; i < 5; i++) await readFile("/proc/self/stat");
}

/** What a collector may answer to somebody who comes too late: it is gone, or about to be. */
function cameTooLate(error: unknown): boolean {
  return error instanceof SporeletError && (error.code === "not_found" || error.code === "unavailable");
}

/** Runs machines from a snapshot without a name, which is stored anew whenever it was collected. */
async function runMachines(store: Store, inUse: Map<Digest, string[]>, name: string): Promise<number> {
  let started = 0;
  let reference: string = (await addSnapshot(store, undefined, { content: name })).digest;
  for (let i = 0; i < rounds; i++) {
    try {
      const { snapshot, lease } = await store.acquire(reference, `run ${name}`);
      {
        using _ = lease;
        await store.check(snapshot);
        inUse.set(snapshot.digest, [`${name}-${i}`]); // Its record, which keeps it from here on.
      }
      const directory = await store.machines.create(`${name}-${i}`);
      await someWork();
      await cloneFile(snapshot.files.disk ?? "", join(directory, "disk"));
      expect(await readFile(join(directory, "disk"), "utf8")).toBe(`disk of ${name}`);
      await store.verify(snapshot.digest);
      await store.machines.remove(`${name}-${i}`);
      inUse.delete(snapshot.digest);
      started++;
    } catch (error) {
      if (!cameTooLate(error)) throw error;
      reference = (await addSnapshot(store, undefined, { content: name })).digest;
    }
    await someWork();
  }
  return started;
}

/** Pulls a snapshot whose blobs are leased while they arrive, and takes its name away again. */
async function pull(store: Store, name: string): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    const blob: Digest = `sha256:${Buffer.from(`${name} ${i}`).toString("hex").padEnd(64, "0")}`;
    using _lease = store.lease(blob, `pull ${name}`);
    const partial = await store.blobs.partial(blob);
    await writeFile(partial, name);
    await store.blobs.put(partial, blob);
    await someWork();
    expect(await readFile(store.blobs.path(blob), "utf8")).toBe(name);
    const { digest } = await addSnapshot(store, name, { content: `${name} ${i}` });
    await someWork();
    expect((await store.resolve(name)).digest).toBe(digest);
    await store.verify(name);
    await store.untag(name);
  }
}

/** Builds: all that it uses from its start on stays, though it does not know beforehand what that will be. */
async function build(store: Store): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    using _lease = store.lease(undefined, "build");
    const create = (into: string) => writeFile(join(into, "disk"), "rootfs");
    const { directory } = await store.cache.getOrCreate("rootfs", `key${i % 3}`, create);
    await someWork();
    expect(await readFile(join(directory, "disk"), "utf8")).toBe("rootfs");
    await using draft = await store.newSnapshot();
    await cloneFile(join(directory, "disk"), join(draft.directory, "disk"));
    for (const file of ["memory", "vmstate"]) await writeFile(join(draft.directory, file), `${file} ${i}`);
    const { digest } = await draft.commit(description);
    await someWork();
    await store.verify(digest); // It has no name, and was used just now.
  }
}

/** Freezes children of a snapshot that nothing but they need, and gives the last one a name. */
async function freezeChildren(store: Store): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    const parent = await addSnapshot(store, `line-${i}`, { content: `line ${i}` });
    const { lease } = await store.acquire(parent.digest, "fork");
    using _ = lease;
    await store.untag(`line-${i}`);
    const child = await addChild(store, parent, `child-${i}`);
    await someWork();
    const history = await store.history(child.digest);
    expect(history.map(({ snapshot }) => snapshot?.digest)).toEqual([child.digest, parent.digest]);
    await store.untag(`child-${i}`);
  }
}

it("collecting without pause never takes what runs, pulls, builds and forks work with", async () => {
  await using directory = await temporaryDirectory();
  const store = await openStore({ root: join(directory.path, "store") });
  const inUse = new Map<Digest, string[]>();
  const residents = { inUse: (digest: Digest) => inUse.get(digest) ?? [] };
  const always = await addSnapshot(store, "always");
  let working = true;
  let collected = 0;
  const collect = async () => {
    while (working) {
      collected += (await store.collect(residents)).removed.length;
      await someWork();
    }
  };
  const work = Promise.all([
    runMachines(store, inUse, "a"),
    runMachines(store, inUse, "b"),
    pull(store, "pulled"),
    build(store),
    freezeChildren(store),
  ]).finally(() => {
    working = false;
  });
  const [started] = await Promise.all([work, collect()]);
  expect(started[0] + started[1]).toBeGreaterThan(0); // Work was done,
  expect(collected).toBeGreaterThan(rounds); // and much was collected meanwhile.
  await store.collect(residents);
  expect(await store.list()).toEqual([always]);
}, 240_000);
