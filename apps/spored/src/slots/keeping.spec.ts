import { getPriority } from "node:os";
import { niceValues } from "@sporelet/host";
import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { storeFrozenGuest } from "../lazy/testing/frozen-guest.ts";
import { type LocalNode, openLocalNode } from "../lazy/testing/local-node.ts";
import { resumeClone } from "../resume.ts";
import { enlist } from "../start.ts";
import { traces } from "../testing/node.ts";
import { coldAfterMs } from "./demand.ts";
import { hostMemory } from "./memory.ts";
import { createPool } from "./pool.ts";
import { readSlotRecords } from "./records.ts";
import { createSlots } from "./slots.ts";

describe("slots that are kept", () => {
  let local: LocalNode;
  let snapshot: StoredSnapshot;

  beforeAll(async () => {
    local = await openLocalNode();
    snapshot = await storeFrozenGuest(local.node, "guest");
    await local.node.store.tag("guest", "other:1");
  });
  afterAll(async () => {
    await local?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    const { node } = local;
    for (const machine of node.machines) await local.remove(machine);
    await node.slots.forget(snapshot.digest);
    expect(await traces(node.home)).toEqual([]);
    local.log.length = 0;
  });

  const keep = (slots: number, name = "guest") => local.node.slots.keep(snapshot, name, { slots });
  const planOf = (reference: string) => ({
    ...{ snapshot, reference, name: "clone", ports: [], env: {}, remove: false },
    arrivedAt: performance.now(),
  });
  const vmms = async () => {
    const found = await traces(local.node.home);
    return found.flatMap((trace) => /^process (\d+)/.exec(trace)?.slice(1).map(Number) ?? []);
  };
  const onlyVmm = async () => {
    const [pid = 0, ...others] = await vmms();
    expect(others).toEqual([]);
    return pid;
  };
  const logged = (event: string) => local.log.filter((line) => line.includes(`"event":"${event}"`));

  it("do not fail a run when their VMM has ended a moment ago", async () => {
    await keep(1);
    process.kill(await onlyVmm(), "SIGKILL");
    const machine = await local.run({ snapshot }, "one"); // Taken before that is known.
    expect(machine.record).toMatchObject({ state: "running", timings: { fromPool: false } });
    expect(logged("slot lost as it was taken")).toHaveLength(1);
    expect(await traces(local.node.home)).toContain(`directory ${machine.id}`);
  });

  it("do not fail a run when their VMM ends before the guest has answered", async () => {
    await keep(1);
    const pid = await onlyVmm();
    process.kill(pid, "SIGSTOP");
    const running = local.run({ snapshot }, "one");
    process.kill(pid, "SIGKILL");
    expect((await running).record).toMatchObject({ state: "running", timings: { fromPool: false } });
    expect(logged("slot lost as it was taken")).toHaveLength(1);
  });

  it("are none whose VMM has ended by the time when they are prepared", async () => {
    const { vmm, ...parts } = local.node;
    const prepare: typeof vmm.prepare = async (spec, signal) => ({
      ...(await vmm.prepare(spec, signal)),
      ended: Promise.resolve(),
    });
    const pool = createPool({ ...parts, vmm: { ...vmm, prepare } }, snapshot, hostMemory);
    await pool.resize(1);
    await pool.fill();
    expect(pool).toMatchObject({ ready: 0, problem: expect.stringMatching(/ended as soon as/) });
    await pool.close();
  });

  it("are replaced at once when one ends, and not again and again", async () => {
    const { slots } = local.node;
    const first = () => slots.list().then(([status]) => status);
    await keep(1);
    const before = await onlyVmm();
    process.kill(before, "SIGKILL");
    await expect.poll(first, { timeout: 20_000 }).toMatchObject({ ready: 0 });
    await expect.poll(first, { timeout: 20_000 }).toMatchObject({ ready: 1, problem: undefined });
    process.kill(await onlyVmm(), "SIGKILL");
    const waits = { ready: 0, problem: expect.stringMatching(/tried again later/) };
    await expect.poll(first, { timeout: 20_000 }).toMatchObject(waits);
    expect(await vmms()).toEqual([]);
    expect(await keep(1)).toMatchObject({ ready: 1, problem: undefined }); // Somebody asked.
  });

  it("are all known at once to the next spored, which loses none when it is killed while it prepares", async () => {
    const { node } = local;
    await keep(1);
    await keep(1, "other:1");
    await node.slots[Symbol.asyncDispose](); // The records stay.
    await using next = createSlots(node);
    const restored = next.restore(node.store.resolve);
    await expect.poll(() => next.counts()).toHaveLength(2);
    expect(next.counts().map(({ ready }) => ready)).toEqual([0, 0]);
    expect(await readSlotRecords(node.store.root)).toHaveLength(2);
    await next.keep(snapshot, "other:1", { slots: 0 });
    await restored;
    expect(next.counts()).toEqual([{ reference: "guest", wanted: 1, ready: 1 }]);
    expect(await readSlotRecords(node.store.root)).toMatchObject([{ reference: "guest" }]);
  });

  it("are ended by whoever asks for that before the next spored has remembered them", async () => {
    const { node } = local;
    await keep(1);
    await node.slots[Symbol.asyncDispose]();
    await using next = createSlots(node);
    const restored = next.restore(node.store.resolve);
    await next.keep(snapshot, "guest", { slots: 0 });
    await restored;
    expect(next.counts()).toEqual([]);
    expect(await readSlotRecords(node.store.root)).toEqual([]);
  });

  it("belong to the name that they were asked for by, and serve every name of the snapshot", async () => {
    await keep(1);
    await keep(1, "guest:latest"); // The same name.
    await keep(1, "other:1");
    const kept = async () =>
      (await local.node.slots.list()).map(({ reference, ready }) => [reference, ready]);
    expect(await kept()).toEqual([
      ["guest:latest", 1],
      ["other:1", 1],
    ]);
    for (const name of ["one", "two"]) {
      expect((await local.run({ snapshot }, name)).record.timings).toMatchObject({ fromPool: true });
    }
    await keep(0);
    expect((await kept()).map(([reference]) => reference)).toEqual(["other:1"]);
    await expect(keep(0, snapshot.digest)).rejects.toMatchObject({
      code: "failed_precondition",
      reason: expect.stringMatching(/kept ready for another name, other:1/),
    });
  });

  it("go when the host's memory is short, and come back only when there is plenty", async () => {
    let available = 0.5;
    let looks = 0;
    const memory = {
      availableBytes: () => {
        looks += 1;
        return available * 2 ** 30;
      },
      totalBytes: () => 2 ** 30,
    };
    await using slots = createSlots(local.node, { memory, reviewMs: 20 });
    const list = () => slots.list().then(([status]) => status);
    const reviewed = async () => {
      const before = looks;
      await expect.poll(() => looks, { timeout: 10_000 }).toBeGreaterThan(before + 5);
    };
    expect(await slots.keep(snapshot, "guest", { slots: 2 })).toMatchObject({ ready: 2 });
    available = 0.07;
    await reviewed();
    expect(await list()).toMatchObject({ wanted: 2, ready: 2, problem: undefined });
    available = 0.04;
    const problem = "less than 10 % of the host's memory is available";
    await expect.poll(list, { timeout: 20_000 }).toMatchObject({ wanted: 0, ready: 0, problem });
    await expect.poll(vmms, { timeout: 20_000 }).toEqual([]);
    available = 0.07;
    await reviewed();
    expect(await list()).toMatchObject({ wanted: 2, ready: 0, problem });
    available = 0.5;
    await expect.poll(list, { timeout: 20_000 }).toMatchObject({ ready: 2, problem: undefined });
  });

  it("are none when they are automatic and nobody asks any more, and one with the next who does", async () => {
    let nowMs = 0;
    await using slots = createSlots(local.node, { now: () => nowMs, reviewMs: 20 });
    const counts = () => slots.counts()[0];
    await slots.keep(snapshot, "guest", { automatic: true, memoryBytes: 2 ** 30 });
    expect(counts()).toMatchObject({ wanted: 1, ready: 1 });
    nowMs += coldAfterMs + 1;
    await expect.poll(counts, { timeout: 20_000 }).toMatchObject({ wanted: 0, ready: 0 });
    expect(slots.take(planOf("guest"))).toBeUndefined();
    await expect.poll(counts, { timeout: 20_000 }).toMatchObject({ wanted: 1, ready: 1 });
    await slots.forget(snapshot.digest);
  });

  it("weigh less than machines that run, until they are one", async (ctx) => {
    if (process.getuid?.() !== 0) ctx.skip("only root may raise a priority again");
    await keep(1);
    expect((await vmms()).map((pid) => getPriority(pid))).toEqual([niceValues.preparing]);
    const machine = await local.run({ snapshot }, "one");
    expect(machine.record.timings).toMatchObject({ fromPool: true });
    expect(getPriority(machine.live?.vm.pid)).toBe(niceValues.running);
  });

  it("count as ready when their record is written", async () => {
    const plan = planOf("guest");
    const machine = enlist(local.node, plan, "resume");
    const { update } = machine;
    machine.update = async (change) => {
      await update(change);
      await new Promise((resolve) => setTimeout(resolve, 200)); // A slow disk.
    };
    const begunAt = performance.now();
    await resumeClone(local.node, machine, plan, AbortSignal.timeout(30_000));
    const tookMs = performance.now() - begunAt;
    const { readyMs = 0, readyStageMs = 0 } = machine.record.timings ?? {};
    expect(readyStageMs).toBeGreaterThan(199);
    expect(tookMs - readyMs).toBeLessThan(100);
  });
});
