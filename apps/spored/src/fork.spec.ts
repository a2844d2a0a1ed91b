import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { node as api } from "@sporelet/api";
import { runProcess } from "@sporelet/host";
import { freePorts } from "@sporelet/host/testing";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { forked, run, shell, startTestNode, type TestNode, traces } from "./testing/node.ts";
import {
  buildWorker,
  endWork,
  portOf,
  sound,
  verify,
  visit,
  visitContinually,
  workerPort,
} from "./testing/worker.ts";

const isRoot = process.getuid?.() === 0;
const ports = [{ host: 0, guest: workerPort }];

it("forks real guests", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)("a machine that works", () => {
  let node: TestNode;

  beforeAll(async () => {
    node = await startTestNode();
    await buildWorker(node);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    const { machines } = await node.client.listMachines({});
    for (const { id } of machines) await node.client.removeMachine({ machine: id, force: true });
    expect(await traces(node.home)).toEqual([]);
    const { snapshots } = await node.client.listSnapshots({});
    for (const { digest, tags } of snapshots) {
      if (tags.length === 0) await node.client.removeSnapshot({ snapshot: digest });
    }
  });

  const start = async (name: string, snapshot = "worker"): Promise<api.Machine> => {
    const [machine] = await run(node.client, { snapshot, name, ports });
    if (machine === undefined) throw new Error("no machine");
    return machine;
  };
  const nameless = async () =>
    (await node.client.listSnapshots({})).snapshots.filter(({ tags }) => tags.length === 0);

  /** Ends the worker, unmounts its file system, and has it checked on the host. */
  const checkFileSystem = async (machine: api.Machine): Promise<void> => {
    await endWork(portOf(machine));
    expect(await shell(node.client, machine.id, "umount /disk")).toMatchObject({ code: 0 });
    await node.client.stop({ machine: machine.id });
    const disk = path.join(machine.directory, "disk");
    await runProcess(["e2fsck", "-f", "-n", disk], { operation: `check the file system in ${disk}` });
  };

  it("is forked again and again, and nothing is lost in it or in any child", async () => {
    const parent = await start("parent");
    await using visitor = visitContinually(portOf(parent));
    const children: api.Machine[] = [];
    for (let round = 0; round < 3; round++) {
      await sleep(300);
      const before = await verify(portOf(parent));
      const { machines, digest } = await forked(node.client, { machine: "parent", count: 2, ports });
      const after = await verify(portOf(parent));
      const reports = await Promise.all(machines.map((child) => verify(portOf(child))));
      for (const [i, report] of reports.entries()) {
        expect(report.problems).toEqual(sound);
        // It goes on from an instant between the two looks at its parent.
        expect(report.pages).toBeGreaterThan(before.pages);
        expect(report.records).toBeGreaterThanOrEqual(before.records);
        expect(report.requests).toBeGreaterThanOrEqual(before.requests);
        expect(report.requests).toBeLessThanOrEqual(after.requests);
        // It counts for itself.
        expect(await visit(portOf(machines[i]))).toBe(report.requests + 1);
      }
      // All children begin with the same number of requests, which nobody makes of them but we.
      expect(new Set(reports.map(({ requests }) => requests)).size).toBe(1);
      const { verified, parent: from } = await node.client.verifySnapshot({ snapshot: digest });
      expect({ verified, from }).toEqual({ verified: true, from: parent.snapshotDigest });
      children.push(...machines);
      // They would all work at the same time.
      for (const { id } of machines) await node.client.pause({ machine: id });
    }
    // Every request was answered, in order, also those that came while the guest stood still.
    const { answers } = await visitor.end();
    expect(answers.length).toBeGreaterThan(0);
    expect(answers).toEqual(answers.map((_, i) => (answers[0] ?? 0) + i));

    const all = [parent, ...children];
    const identities = all.map(({ machineId, hostname }) => `${machineId} ${hostname}`);
    expect(new Set(identities).size).toBe(all.length);
    for (const machine of all) {
      if (machine !== parent) await node.client.unpause({ machine: machine.id });
      const first = await verify(portOf(machine));
      await sleep(100);
      const second = await verify(portOf(machine));
      for (const report of [first, second]) expect(report.problems).toEqual(sound);
      expect(second.pages).toBeGreaterThan(first.pages);
      expect(second.records).toBeGreaterThan(first.records);
      await checkFileSystem(machine);
    }
  });

  it("goes on when one of its programs cannot be stopped for a freeze, and says which", async () => {
    const machine = await start("stuck");
    const stick = [
      "fsfreeze --freeze /disk",
      "(dd if=/dev/zero of=/disk/stuck bs=4k count=1 2>/dev/null &)",
      "until grep -q '^State:.D' /proc/$(pidof dd)/status; do sleep 0.1; done",
    ];
    expect(await shell(node.client, machine.id, stick.join("; "))).toMatchObject({ code: 0 });
    await expect(forked(node.client, { machine: machine.id, count: 1, ports })).rejects.toMatchObject({
      code: "guest_failed",
      reason: expect.stringMatching(/process \d+ \(dd\) in uninterruptible sleep/),
    });
    expect(await shell(node.client, machine.id, "fsfreeze --unfreeze /disk")).toMatchObject({ code: 0 });
    const before = await verify(portOf(machine));
    expect(before.problems).toEqual(sound);
    const { machines } = await forked(node.client, { machine: machine.id, count: 1, ports });
    for (const each of [machine, ...machines]) {
      const report = await verify(portOf(each));
      expect(report.problems).toEqual(sound);
      expect(report.records).toBeGreaterThanOrEqual(before.records);
    }
  });

  it("is forked by its fork, and its fork's fork", async () => {
    let machine = await start("generation-0");
    const digests = [machine.snapshotDigest];
    for (const generation of [1, 2, 3]) {
      const before = await verify(portOf(machine));
      const name = `generation-${generation}`;
      const { machines, digest } = await forked(node.client, { machine: machine.id, name, ports });
      const [child] = machines;
      if (child === undefined) throw new Error("no child");
      const report = await verify(portOf(child));
      expect(report.problems).toEqual(sound);
      expect(report.pages).toBeGreaterThan(before.pages);
      expect(await node.client.inspectSnapshot({ snapshot: digest })).toMatchObject({
        parent: digests.at(-1),
        layer: 2 + generation,
      });
      digests.push(digest);
      machine = child;
    }
    await checkFileSystem(machine);
  });

  it("is frozen as a difference, three deep, and each layer costs what it changed", async () => {
    let machine = await start("layer-0");
    const base = await node.client.inspectSnapshot({ snapshot: "worker" });
    for (const layer of [1, 2, 3]) {
      const before = await verify(portOf(machine));
      const tag = `layer:${layer}`;
      const snapshot = await node.client.createSnapshot({ machine: machine.id, tag, diff: true });
      expect(snapshot).toMatchObject({ layer: 2 + layer, parent: machine.snapshotDigest });
      expect(snapshot.memoryOwnBytes).toBeGreaterThan(0n);
      expect(snapshot.memoryOwnBytes).toBeLessThan(base.memoryUsedBytes / 2n);
      expect(snapshot.diskOwnBytes).toBeGreaterThan(0n);
      expect(snapshot.diskOwnBytes).toBeLessThan(snapshot.diskBytes / 4n);
      expect((await node.client.verifySnapshot({ snapshot: tag })).verified).toBe(true);
      const parent = machine;
      machine = await start(`layer-${layer}`, tag);
      const report = await verify(portOf(machine));
      expect(report.problems).toEqual(sound);
      expect(report.pages).toBeGreaterThan(before.pages);
      expect((await verify(portOf(parent))).problems).toEqual(sound);
    }
    await checkFileSystem(machine);
    for (const { name } of (await node.client.listMachines({})).machines) {
      await node.client.removeMachine({ machine: name, force: true });
    }
    for (const layer of [3, 2, 1]) await node.client.removeSnapshot({ snapshot: `layer:${layer}` });
  });

  it("shares nothing of its secrets, processes or files with its children", async () => {
    await run(node.client, { snapshot: "worker", name: "parent", env: { TOKEN: "secret" } });
    await shell(node.client, "parent", "echo old > /note; sleep 1000 & echo $! > /pid");
    await forked(node.client, { machine: "parent", name: "child", env: { COLOUR: "blue" } });
    expect((await shell(node.client, "child", "echo [$TOKEN] $COLOUR; cat /note")).stdout).toBe(
      "[] blue\nold\n",
    );
    expect((await shell(node.client, "parent", "echo $TOKEN $COLOUR")).stdout).toBe("secret\n");
    await shell(node.client, "child", "kill $(cat /pid); echo new > /note");
    expect((await shell(node.client, "parent", "kill -0 $(cat /pid) && cat /note")).stdout).toBe("old\n");
  });

  it("ends the commands that run in it at that instant, and says why", async () => {
    await start("parent");
    const running = shell(node.client, "parent", "echo up; sleep 1000").catch((error) => error);
    await sleep(300);
    await forked(node.client, { machine: "parent", name: "child" });
    expect(await running).toMatchObject({
      code: "unavailable",
      reason: expect.stringContaining("fork"),
      hint: expect.stringContaining("background"),
    });
  });

  it("keeps the snapshot of a fork while a child uses it, and no longer than that", async () => {
    await start("parent");
    const { digest } = await forked(node.client, { machine: "parent", name: "child" });
    await expect(node.client.removeSnapshot({ snapshot: digest })).rejects.toMatchObject({
      code: "failed_precondition",
    });
    await node.client.removeMachine({ machine: "child", force: true });
    expect((await node.client.removeSnapshot({ snapshot: digest })).deleted).toEqual([digest]);
  });

  it("goes on without any child when one of them cannot start", async () => {
    const parent = await start("parent");
    const hook = "/etc/sporelet/hooks/after-resume.d/refuse";
    const script = `#!/bin/sh\ncase $SPORELET_HOSTNAME in *-2) echo no more >&2; exit 3; esac\n`;
    await shell(
      node.client,
      "parent",
      `mkdir -p ${path.dirname(hook)} && printf '${script.replaceAll("\n", "\\n")}' > ${hook} && chmod +x ${hook}`,
    );
    await expect(forked(node.client, { machine: "parent", name: "child", count: 3 })).rejects.toMatchObject({
      code: "guest_failed",
    });
    await node.client.settle({});
    const { machines } = await node.client.listMachines({});
    expect(machines.map(({ name }) => name)).toEqual(["parent"]);
    expect(await nameless()).toEqual([]);
    expect((await verify(portOf(parent))).problems).toEqual(sound);
  });

  it("goes on when the fork is cancelled at any moment", async () => {
    const parent = await start("parent");
    for (const afterMs of [0, 20, 60, 120, 200, 300, 450, 600, 800]) {
      const controller = new AbortController();
      const going = forked(node.client, { machine: "parent", name: "child", count: 2 }, controller.signal);
      await sleep(afterMs);
      controller.abort();
      await going.catch((error) => expect(error).toMatchObject({ code: "cancelled" }));
      await node.client.settle({});
      const { machines } = await node.client.listMachines({});
      const children = machines.filter(({ name }) => name !== "parent");
      // A fork that was over before is no longer cancelled.
      expect([0, 2]).toContain(children.length);
      for (const { id } of children) await node.client.removeMachine({ machine: id, force: true });
      if (children.length === 0) expect(await nameless()).toEqual([]);
      for (const { digest } of await nameless()) await node.client.removeSnapshot({ snapshot: digest });
      expect((await verify(portOf(parent))).problems).toEqual(sound);
    }
  });

  it("may end while it is forked: before its state is taken there are no children, afterwards all", async () => {
    for (const afterMs of [0, 100, 200, 300, 500]) {
      const parent = await start("parent");
      const going = forked(node.client, { machine: "parent", name: "child", ports }).then(
        ({ machines }) => machines,
        (error) => {
          expect(error).toMatchObject({ code: "failed_precondition" });
          return [];
        },
      );
      await sleep(afterMs);
      process.kill(parent.pid, "SIGKILL");
      const children = await going;
      for (const child of children) expect((await verify(portOf(child))).problems).toEqual(sound);
      for (const { id } of (await node.client.listMachines({})).machines) {
        await node.client.removeMachine({ machine: id, force: true });
      }
      if (children.length === 0) expect(await nameless()).toEqual([]);
    }
  });

  it("is forked while everything that nothing needs is removed all the time", async () => {
    const parent = await start("parent");
    let [ended, collections] = [false, 0];
    const collector = (async () => {
      for (; !ended; collections++) await node.client.collectCache({});
    })();
    try {
      for (const name of ["a", "b", "c"]) {
        const { machines, digest } = await forked(node.client, { machine: "parent", name, ports });
        expect((await verify(portOf(machines[0]))).problems).toEqual(sound);
        expect((await node.client.verifySnapshot({ snapshot: digest })).verified).toBe(true);
      }
    } finally {
      ended = true;
      await collector;
    }
    expect(collections).toBeGreaterThan(0);
    for (const name of ["a", "b", "c"]) await node.client.removeMachine({ machine: name, force: true });
    await node.client.collectCache({});
    expect(await nameless()).toEqual([]);
    expect((await verify(portOf(parent))).problems).toEqual(sound);
  });

  it("is forked several times at once", async () => {
    const parent = await start("parent");
    const forks = await Promise.all(
      ["a", "b", "c"].map((name) => forked(node.client, { machine: "parent", name, ports })),
    );
    for (const { machines } of forks) expect((await verify(portOf(machines[0]))).problems).toEqual(sound);
    expect((await verify(portOf(parent))).problems).toEqual(sound);
  });

  describe("bad input", () => {
    const refused = async (request: Parameters<typeof forked>[1], expected: object) => {
      await expect(forked(node.client, request)).rejects.toMatchObject(expected);
      expect(await nameless()).toEqual([]);
    };

    it("is refused before anything happens", async () => {
      await start("parent");
      await refused({ machine: "parrent" }, { code: "not_found", hint: expect.stringContaining("parent") });
      await refused({ machine: "parent", count: 1001 }, { code: "invalid_argument" });
      await refused({ machine: "parent", name: "No Name" }, { code: "invalid_argument" });
      await refused({ machine: "parent", name: "parent" }, { code: "already_exists" });
      await refused({ machine: "parent", ports: [{ host: 1, guest: 0 }] }, { code: "invalid_argument" });
      const host = await freePorts(2);
      const server = net.createServer().listen(host + 1, "127.0.0.1");
      await once(server, "listening");
      const taken = [{ host, guest: workerPort }];
      await refused(
        { machine: "parent", count: 2, ports: taken },
        { code: "already_exists", message: expect.stringContaining(String(host + 1)) },
      );
      server.close();
    });

    it("names what state a machine would have to be in", async () => {
      await start("parent");
      await node.client.pause({ machine: "parent" });
      await refused(
        { machine: "parent" },
        { code: "failed_precondition", hint: expect.stringContaining("unpause parent") },
      );
      await node.client.stop({ machine: "parent" });
      await refused({ machine: "parent" }, { code: "failed_precondition" });
    });

    it("a booted machine is no difference to anything, but can be forked", async () => {
      for await (const _ of node.client.boot({ snapshot: "seed", name: "cold" }));
      await expect(
        node.client.createSnapshot({ machine: "cold", tag: "cold:1", diff: true }),
      ).rejects.toMatchObject({
        code: "failed_precondition",
        hint: "sporectl snapshot create cold -t cold:1 freezes it whole",
      });
      await shell(node.client, "cold", "echo here > /note");
      await forked(node.client, { machine: "cold", name: "child" });
      expect((await shell(node.client, "child", "cat /note")).stdout).toBe("here\n");
    });
  });
});
