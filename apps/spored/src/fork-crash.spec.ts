import { setTimeout as sleep } from "node:timers/promises";
import type { node as api } from "@sporelet/api";
import { freePorts } from "@sporelet/host/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { forked, run, startTestNode, type TestNode, traces } from "./testing/node.ts";
import { buildWorker, portOf, sound, verify, workerPort } from "./testing/worker.ts";

const isRoot = process.getuid?.() === 0;
const kills = Number(process.env.SPORELET_TEST_KILLS ?? 100);
/** So many of them when the operation has ended, at whatever time that is. */
const afterTheEnd = 3;
/** The worker looks at all that it wrote, which takes longer and longer: not after every kill. */
const looksEvery = 10;
/** Each kill is followed by the start of a spored. */
const timeoutMs = kills * 10_000;

it("is killed while it freezes real guests", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)(`a spored that is killed at ${kills} instants`, () => {
  let node: TestNode;
  let parent: api.Machine;
  /** Its port is taken again by the next spored. */
  const published = async () => [{ host: await freePorts(), guest: workerPort }];
  /** Lines of `traces` that are the parent's. */
  let itsOwn: string[];

  beforeAll(async () => {
    node = await startTestNode();
    await buildWorker(node);
    const ports = await published();
    const [machine] = await run(node.client, { snapshot: "worker", name: "parent", ports });
    if (machine === undefined) throw new Error("no machine");
    parent = machine;
    itsOwn = await traces(node.home);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  /**
   * Kills spored at instants spread over the time that the operation takes, and looks at what the next spored
   * finds: what was made is whole, what was not is not there, and the parent works.
   */
  const killedDuring = async (operation: (n: number) => Promise<unknown>): Promise<void> => {
    // As long as it takes a spored that has just started, like all that are killed.
    await node.kill();
    await node.reconnect();
    const began = performance.now();
    await operation(0);
    const tookMs = performance.now() - began;
    await removeAllBut([parent.name]);
    let [before, finished] = [await verify(portOf(parent)), 0];
    for (let n = 1; n <= kills; n++) {
      const going = operation(n).then(
        () => true,
        () => false,
      );
      await (n <= kills - afterTheEnd ? sleep((tookMs * 1.1 * n) / kills) : going);
      await node.kill();
      if (await going) finished += 1;
      const client = await node.reconnect();
      const { machines } = await client.listMachines({});
      for (const machine of machines) expect(machine.state).toBe("running");
      const known = new Set(machines.map(({ id }) => id));
      const left = (await traces(node.home)).filter((line) => ![...known].some((id) => line.includes(id)));
      expect(left).toEqual([]);
      for (const { digest } of (await client.listSnapshots({})).snapshots) {
        if (parent.snapshotDigest === digest) continue;
        expect((await client.verifySnapshot({ snapshot: digest })).verified).toBe(true);
      }
      await removeAllBut([parent.name]);
      expect(await traces(node.home)).toEqual(itsOwn);
      if (n % looksEvery > 0) continue;
      const now = await verify(portOf(parent));
      expect(now.problems).toEqual(sound);
      expect(now.pages).toBeGreaterThan(before.pages);
      expect(now.records).toBeGreaterThan(before.records);
      before = now;
    }
    // Instants before and after the end: the whole of the operation was hit.
    expect(finished).toBeGreaterThan(0);
    expect(finished).toBeLessThan(kills);
  };

  /** Machines, and snapshots but those that were there at first. */
  const removeAllBut = async (names: string[]): Promise<void> => {
    for (const { id, name } of (await node.client.listMachines({})).machines) {
      if (!names.includes(name)) await node.client.removeMachine({ machine: id, force: true });
    }
    for (const { digest, tags } of (await node.client.listSnapshots({})).snapshots) {
      if (!tags.some((tag) => /^(base|seed|worker):/.test(tag))) {
        await node.client.removeSnapshot({ snapshot: digest });
      }
    }
  };

  it("in a diff leaves a whole snapshot or none, and the machine at work", {
    timeout: timeoutMs,
  }, async () => {
    await killedDuring((n) =>
      node.client.createSnapshot({ machine: "parent", tag: `crash:${n}`, diff: true }),
    );
  });

  it("in a fork leaves whole children or none, and the machine at work", { timeout: timeoutMs }, async () => {
    await killedDuring(async (n) =>
      forked(node.client, { machine: "parent", name: `child-${n}`, ports: await published() }),
    );
  });
});
