import type { node as api } from "@sporelet/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildBase, forked, run, shell, startTestNode, type TestNode, traces } from "./testing/node.ts";

const isRoot = process.getuid?.() === 0;

it("keeps what real machines need", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)("the store of a node with machines", () => {
  let node: TestNode;
  let base: api.Snapshot;

  beforeAll(async () => {
    node = await startTestNode();
    base = await buildBase(node.client);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    const { machines } = await node.client.listMachines({});
    for (const { id } of machines) await node.client.removeMachine({ machine: id, force: true });
    expect(await traces(node.home)).toEqual([]);
  });

  const entry = async (id: string) => {
    const { entries } = await node.client.listCache({});
    return entries.find((each) => each.id === id);
  };
  const collect = async () =>
    (await node.client.collectCache({})).removed.map(({ kind, id }) => ({ kind, id }));

  it("shows a chain with what each layer added, and keeps it for a machine, running or stopped", async () => {
    const [first] = await run(node.client, { name: "first" });
    await shell(node.client, "first", "head -c 3000000 /dev/urandom > /tmp/data");
    const middle = await node.client.createSnapshot({ machine: first?.id ?? "", tag: "middle", diff: true });
    const [second] = await run(node.client, { snapshot: "middle", name: "second" });
    const top = await node.client.createSnapshot({ machine: second?.id ?? "", tag: "top", diff: true });
    await node.client.removeMachine({ machine: "first", force: true });

    const { entries } = await node.client.snapshotHistory({ snapshot: "top" });
    expect(entries.map(({ digest, present, tags }) => ({ digest, present, tags }))).toEqual([
      { digest: top.digest, present: true, tags: ["top:latest"] },
      { digest: middle.digest, present: true, tags: ["middle:latest"] },
      { digest: base.digest, present: true, tags: ["base:latest"] },
    ]);
    const [, added, whole] = entries.map(({ memoryOwnBytes }) => Number(memoryOwnBytes));
    expect(added).toBeGreaterThan(3_000_000);
    expect(added).toBeLessThan(whole ?? 0);
    expect(await entry(middle.digest)).toMatchObject({
      names: ["middle:latest"],
      keptBy: ["tag middle:latest", "machine second", `child ${top.digest.slice(7, 19)}`],
    });

    // Without its name it is still the snapshot that a machine came from, and a parent.
    await expect(node.client.removeSnapshot({ snapshot: "middle" })).rejects.toThrow(/second/);
    await node.client.stop({ machine: "second" });
    await expect(node.client.removeSnapshot({ snapshot: "middle" })).rejects.toThrow(/parent of top:latest/);
    await expect(node.client.removeCache({ ids: [middle.digest] })).rejects.toThrow(/machine second/);
    await node.client.removeSnapshot({ snapshot: "top" });
    const dry = await node.client.removeSnapshot({ snapshot: "middle", dryRun: true });
    expect(dry).toMatchObject({ untagged: ["middle:latest"], deleted: [middle.digest] });
    await collect();
    expect(await entry(middle.digest)).toBeDefined();

    await node.client.removeMachine({ machine: "second" });
    const removed = await node.client.removeCache({ ids: [middle.digest.slice(7, 19)] });
    expect(removed.removed.map(({ id }) => id)).toEqual([middle.digest]);
    expect(removed.freedBytes).toBeGreaterThan(0n);
    await expect(node.client.inspectSnapshot({ snapshot: "middle" })).rejects.toThrow(/none with this name/);
    expect((await node.client.verifySnapshot({ snapshot: "base" })).digest).toBe(base.digest);
  });

  it("is collected while clones start, and misses nothing that they need", async () => {
    let starting = true;
    const collecting = (async () => {
      let count = 0;
      for (; starting; count++) await collect();
      return count;
    })();
    for (let round = 0; round < 3; round++) {
      // The name alone keeps the snapshot at first, then the machine that runs from its digest.
      const [origin] = await run(node.client, { name: `origin-${round}` });
      const child = await node.client.createSnapshot({ machine: origin?.id ?? "", tag: `child-${round}` });
      const [clone] = await run(node.client, { snapshot: child.digest, name: `clone-${round}` });
      expect(clone?.state).toBe("running");
      expect((await shell(node.client, `clone-${round}`, "cat /proc/uptime")).code).toBe(0);
      expect((await node.client.verifySnapshot({ snapshot: child.digest })).verified).toBe(true);
      // A fork's instant has no name: only its children keep it.
      const { digest, machines } = await forked(node.client, { machine: origin?.id ?? "", count: 2 });
      expect(machines.map(({ snapshotDigest }) => snapshotDigest)).toEqual([digest, digest]);
      expect((await node.client.verifySnapshot({ snapshot: digest })).verified).toBe(true);
    }
    starting = false;
    expect(await collecting).toBeGreaterThan(0);
  });

  it("counts the blocks that clones share with their snapshot once", async () => {
    await run(node.client, { count: 2, name: "clone" });
    const usage = await node.client.cacheUsage({});
    const sum = usage.kinds.reduce((total, { bytes }) => total + bytes, 0n);
    expect(usage.totalBytes).toBeGreaterThan(0n);
    expect(usage.totalBytes).toBeLessThanOrEqual(sum);
    expect(usage.kinds.find(({ kind }) => kind === "machine")?.count).toBe(2);
    expect(usage.totalBytes + usage.freeBytes).toBeLessThanOrEqual(usage.capacityBytes);
  });

  it("gives names, moves them only by force, and takes those that say where it is published", async () => {
    const tag = (name: string, force = false) =>
      node.client.tagSnapshot({ snapshot: "base", tag: name, force });
    const published = "registry.example/team/base:V1";
    expect((await tag(published)).tags).toEqual(["base:latest", published]);
    expect((await tag("base")).digest).toBe(base.digest);
    await expect(tag("../base")).rejects.toThrow(/read the reference/);
    const [clone] = await run(node.client, {});
    await node.client.createSnapshot({ machine: clone?.id ?? "", tag: "other" });
    await expect(tag("other")).rejects.toThrow(/another snapshot has this name/);
    expect((await tag("other", true)).tags).toContain("other:latest");
    expect(await node.client.removeSnapshot({ snapshot: published })).toMatchObject({
      untagged: [published],
      deleted: [],
    });
  });
});
