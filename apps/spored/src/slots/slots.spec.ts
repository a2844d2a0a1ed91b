import type { node as api } from "@sporelet/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildBase, run, shell, startTestNode, type TestNode, traces } from "../testing/node.ts";

describe("slots", () => {
  let node: TestNode;

  beforeAll(async () => {
    node = await startTestNode();
    await buildBase(node.client);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    // A test that failed may have left none.
    const { machines } = await (await node.reconnect()).listMachines({});
    for (const { id } of machines) await node.client.removeMachine({ machine: id, force: true });
    for (const { snapshot } of await pools()) await node.client.keepSlots({ snapshot, slots: 0 });
    expect(await traces(node.home)).toEqual([]);
  });

  const pools = async (): Promise<api.SlotPool[]> => (await node.client.listSlots({})).pools;
  const keep = (slots: number) => node.client.keepSlots({ snapshot: "base", slots });
  const inspect = (machine: string) => node.client.inspectMachine({ machine });
  /** Waits until as many are ready as are wanted: keeping the same number returns then. */
  const refilled = (slots: number) => keep(slots);

  it("become machines that are unique, and are prepared anew", async () => {
    expect(await keep(2)).toMatchObject({ wanted: 2, ready: 2, automatic: false, problem: "" });
    const clones = await run(node.client, { count: 2 });
    expect(clones.map(({ timings }) => timings?.fromPool)).toEqual([true, true]);
    const ids = await Promise.all(
      clones.map(({ id }) => shell(node.client, id, "cat /etc/machine-id; hostname")),
    );
    expect(new Set(ids.map(({ stdout }) => stdout)).size).toBe(2);
    for (const [i, { stdout }] of ids.entries()) {
      expect(stdout).toBe(`${clones[i]?.machineId}\n${clones[i]?.hostname}\n`);
    }
    expect(await refilled(2)).toMatchObject({ ready: 2 });
  });

  it("show in the metrics, and how quick the starts from them were", async () => {
    await keep(1);
    await run(node.client);
    await refilled(2);
    const { text } = await node.client.metrics({});
    expect(text).toContain('sporelet_slots{snapshot="base",kind="ready"} 2\n');
    expect(text).toContain('sporelet_machines{state="running"} 1\n');
    const count =
      /^sporelet_start_stage_seconds_count{origin="resume",stage="ready",slot="prepared"} (\d+)$/m;
    expect(Number(count.exec(text)?.[1])).toBeGreaterThan(0);
  });

  it("give way to clones that are made when there are none left", async () => {
    await keep(1);
    const clones = await run(node.client, { count: 3 });
    expect(clones.map(({ timings }) => timings?.fromPool).sort()).toEqual([false, false, true]);
    for (const { id } of clones) expect((await shell(node.client, id, "true")).code).toBe(0);
  });

  it("are used up by nobody else, and go when they are no longer wanted", async () => {
    const { privateBytes } = await keep(3);
    expect(privateBytes).toBeGreaterThan(0n);
    expect((await traces(node.home)).filter((trace) => trace.startsWith("directory"))).toHaveLength(3);
    await keep(1);
    expect((await traces(node.home)).filter((trace) => trace.startsWith("directory"))).toHaveLength(1);
    expect((await node.client.listMachines({})).machines).toEqual([]);
    await keep(0);
    expect(await pools()).toEqual([]);
    expect(await traces(node.home)).toEqual([]);
  });

  it("are replaced when their process ends", async () => {
    await keep(1);
    const processes = async () => (await traces(node.home)).filter((trace) => trace.startsWith("process"));
    const [before = ""] = await processes();
    process.kill(Number(before.split(" ")[1]), "SIGKILL");
    const replaced = async () => {
      const [pool] = await pools();
      const [now = before, ...others] = await processes();
      return pool?.ready === 1 && now !== before && others.length === 0;
    };
    await expect.poll(replaced, { timeout: 20_000 }).toBe(true);
    const [clone] = await run(node.client);
    expect(clone?.timings?.fromPool).toBe(true);
  });

  it("are kept again by the next spored, whatever became of the last", async () => {
    await keep(2);
    const [machine] = await run(node.client, { name: "stays" });
    await node.kill();
    await node.reconnect();
    expect(await inspect("stays")).toMatchObject({ state: "running", id: machine?.id });
    await expect.poll(async () => (await pools())[0]?.ready, { timeout: 20_000 }).toBe(2);
    const processes = (await traces(node.home)).filter((trace) => trace.startsWith("process"));
    expect(processes).toHaveLength(3);
  });

  it("follow demand when they are automatic, within the memory that they may take", async () => {
    const pool = await node.client.keepSlots({ snapshot: "base", automatic: true });
    expect(pool).toMatchObject({ automatic: true, wanted: 1, ready: 1 });
    await run(node.client, { count: 3 });
    expect((await pools())[0]).toMatchObject({ wanted: 3 });
    await expect.poll(async () => (await pools())[0]?.ready, { timeout: 30_000 }).toBe(3);
    const least = { snapshot: "base", automatic: true, memoryBytes: 1n };
    expect(await node.client.keepSlots(least)).toMatchObject({ wanted: 0, ready: 0 });
  });

  it("go with their snapshot, and are kept of what has its name instead", async () => {
    const [machine] = await run(node.client, { name: "parent" });
    const child = await node.client.createSnapshot({ machine: machine?.id ?? "", tag: "child", diff: true });
    const { snapshotDigest } = await node.client.keepSlots({ snapshot: "child", slots: 1 });
    expect(snapshotDigest).toBe(child.digest);
    await node.client.tagSnapshot({ snapshot: "base", tag: "child", force: true });
    await run(node.client, { snapshot: "child" } as never);
    await expect
      .poll(async () => (await pools()).map(({ snapshotDigest: digest, ready }) => ({ digest, ready })), {
        timeout: 20_000,
      })
      .toEqual([{ digest: machine?.snapshotDigest, ready: 1 }]);
    await node.client.keepSlots({ snapshot: child.digest, slots: 1 });
    await node.client.removeSnapshot({ snapshot: child.digest });
    expect((await pools()).map(({ snapshotDigest: digest }) => digest)).toEqual([machine?.snapshotDigest]);
  });

  it("are refused for what cannot be had", async () => {
    await expect(node.client.keepSlots({ snapshot: "nothing", slots: 1 })).rejects.toMatchObject({
      code: "not_found",
    });
    await expect(keep(1001)).rejects.toMatchObject({ code: "invalid_argument" });
    expect(await pools()).toEqual([]);
  });

  it("are not needed to have a snapshot's pages in memory", async () => {
    const { bytes } = await node.client.warmCache({ snapshot: "base" });
    const { memoryUsedBytes } = await node.client.inspectSnapshot({ snapshot: "base" });
    expect(bytes).toBeGreaterThanOrEqual(memoryUsedBytes);
  });
});
