import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { node as api } from "@sporelet/api";
import { mountXfs, whyNoMounts } from "@sporelet/host/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fillVolume } from "./testing/fill.ts";
import { forked, run, shell, startTestNode, type TestNode, traces } from "./testing/node.ts";
import { buildWorker, portOf, sound, verify, workerPort } from "./testing/worker.ts";

const mebibyte = 1024 * 1024;
const reason = whyNoMounts();

it("freezes real guests on a full disk", (ctx) => {
  if (reason !== undefined) ctx.skip(reason);
});

describe.runIf(reason === undefined)("a machine on a disk that is full", () => {
  let volume: Awaited<ReturnType<typeof mountXfs>>;
  let node: TestNode;
  let parent: api.Machine;

  beforeAll(async () => {
    volume = await mountXfs({ sizeBytes: 2048 * mebibyte });
    node = await startTestNode(volume.path);
    await buildWorker(node);
    const ports = [{ host: 0, guest: workerPort }];
    const [machine] = await run(node.client, { snapshot: "worker", name: "parent", ports });
    if (machine === undefined) throw new Error("no machine");
    parent = machine;
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
    await volume?.[Symbol.asyncDispose]();
  });

  /** Takes all room but so much; disposing gives it back. */
  const fill = (name: string, leftBytes: number) => fillVolume(volume.path, name, leftBytes, 65536);

  /** Nothing but the parent and what there was before, and the parent works. */
  const expectUnharmed = async (): Promise<void> => {
    await node.client.settle({});
    expect((await node.client.listMachines({})).machines.map(({ name }) => name)).toEqual(["parent"]);
    const { snapshots } = await node.client.listSnapshots({});
    expect(snapshots.flatMap(({ tags }) => tags).sort()).toEqual([
      "base:latest",
      "seed:latest",
      "worker:latest",
    ]);
    expect(snapshots).toHaveLength(3);
    expect((await traces(node.home)).filter((line) => !line.includes(parent.id))).toEqual([]);
    const before = await verify(portOf(parent));
    await sleep(100);
    const after = await verify(portOf(parent));
    for (const report of [before, after]) expect(report.problems).toEqual(sound);
    expect(after.pages).toBeGreaterThan(before.pages);
    expect(after.records).toBeGreaterThan(before.records);
  };

  it("is not even paused for what cannot fit", async () => {
    for (const leftBytes of [mebibyte, 4 * mebibyte]) {
      await using _filler = await fill("filler", leftBytes);
      const full = { code: "resource_exhausted", hint: expect.stringContaining("cache gc") };
      const diff = node.client.createSnapshot({ machine: "parent", tag: "full", diff: true });
      await expect(diff).rejects.toMatchObject(full);
      await expect(forked(node.client, { machine: "parent", name: "child" })).rejects.toMatchObject(full);
    }
    await expectUnharmed();
  });

  it("is not waited for when it finds no room for what it writes before a freeze", async () => {
    const hook = "/etc/sporelet/hooks/before-freeze.d/10-write";
    const add = [
      `mkdir -p ${path.dirname(hook)}`,
      `echo '#!/bin/sh' >${hook}`,
      `echo 'dd if=/dev/zero of=/disk/large bs=1M count=76 conv=fsync' >>${hook}`,
      `chmod +x ${hook}`,
    ].join("; ");
    const remove = `while pidof dd; do sleep 0.1; done; rm ${hook} /disk/large`;
    const fork = () => forked(node.client, { machine: "parent", name: "child" });
    const expectTold = async (operation: () => Promise<unknown>, leftBytes: number, reason: RegExp) => {
      expect(await shell(node.client, "parent", add)).toMatchObject({ code: 0 });
      {
        await using _filler = await fill("filler", leftBytes);
        await expect(operation()).rejects.toMatchObject({
          code: "resource_exhausted",
          reason: expect.stringMatching(reason),
          hint: expect.stringContaining("cache gc"),
        });
      }
      expect(await shell(node.client, "parent", remove)).toMatchObject({ code: 0 });
    };
    await expectTold(fork, 40 * mebibyte, /the guest stands still/);
    // In a freeze the guest gives back what the hook took, too.
    const { machines, digest } = await fork();
    for (const { id } of machines) await node.client.removeMachine({ machine: id, force: true });
    await node.client.removeSnapshot({ snapshot: digest });
    // The host may find out first that there is too little for the memory.
    const suspend = () => node.client.suspend({ machine: "parent" });
    await expectTold(suspend, 64 * mebibyte, /it may take|the guest stands still/);
    await expectUnharmed();
  });

  it("goes on when the disk fills up at any moment of a diff or a fork", async () => {
    let refused = 0;
    // The rest is quickly taken.
    await using _most = await fill("most", 128 * mebibyte);
    for (const afterMs of [0, 50, 100, 150, 200, 250, 300, 400, 500, 600, 800]) {
      for (const operation of [
        () => node.client.createSnapshot({ machine: "parent", tag: "full", diff: true }),
        () => forked(node.client, { machine: "parent", name: "child" }),
      ]) {
        const going = operation().then(
          () => undefined,
          (error) => error,
        );
        await sleep(afterMs);
        {
          await using _filler = await fill("filler", 0);
          const error = await going;
          if (error !== undefined) {
            refused += 1;

            expect(error).toMatchObject({ code: "resource_exhausted" });
          }
        }
        for (const { id, name } of (await node.client.listMachines({})).machines) {
          if (name !== "parent") await node.client.removeMachine({ machine: id, force: true });
        }
        for (const { digest, tags } of (await node.client.listSnapshots({})).snapshots) {
          if (tags.length > 0 && !tags.includes("full:latest")) continue;
          expect((await node.client.verifySnapshot({ snapshot: digest })).verified).toBe(true);
          await node.client.removeSnapshot({ snapshot: digest });
        }
        await expectUnharmed();
      }
    }
    expect(refused).toBeGreaterThan(0);
  });
});
