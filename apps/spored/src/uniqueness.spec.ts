import type { node as api } from "@sporelet/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { forked, run, shell, startTestNode, type TestNode } from "./testing/node.ts";
import {
  buildSources,
  clockOffset,
  type Sources,
  sourcePorts,
  type Values,
  valuesAfter,
} from "./testing/sources.ts";

const isRoot = process.getuid?.() === 0;
/** How many clones draw, and how many at a time: each has two virtual CPUs, all of them busy. */
const cloneCount = Number(process.env.SPORELET_TEST_CLONES ?? 100);
const batch = 4;
const ports = Object.values(sourcePorts).map((guest) => ({ host: 0, guest }));

/** What one source has given in all clones. */
interface Seen {
  /** The clone that handed a value out. */
  by: Map<string, number>;
  /** Values that came more than once. */
  again: string[];
  /** How many clones handed out any. */
  clones: number;
}

function note(seen: Map<string, Seen>, drawn: Values, clone: number): void {
  for (const [source, list] of Object.entries(drawn)) {
    const all: Seen = seen.get(source) ?? { by: new Map(), again: [], clones: 0 };
    seen.set(source, all);
    if (list.length > 0) all.clones += 1;
    for (const value of list) {
      const other = all.by.get(value);
      if (other !== undefined) all.again.push(`${value} of clones ${other} and ${clone}`);
      all.by.set(value, clone);
    }
  }
}

it("makes clones unique", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)("clones of a guest that was frozen while its programs drew random values", () => {
  let node: TestNode;
  let sources: Sources;

  beforeAll(async () => {
    node = await startTestNode();
    sources = await buildSources(node);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const clones = async (count: number): Promise<api.Machine[] & AsyncDisposable> => {
    const machines = await run(node.client, { snapshot: sources.snapshot, count, ports });
    return Object.assign(machines, {
      async [Symbol.asyncDispose]() {
        await Promise.all(machines.map(({ id }) => node.client.removeMachine({ machine: id, force: true })));
      },
    });
  };

  it(`hand out no value twice, ${cloneCount} of them`, { timeout: 600_000 }, async (ctx) => {
    const seen = new Map<string, Seen>();
    for (let first = 0; first < cloneCount; first += batch) {
      await using machines = await clones(Math.min(batch, cloneCount - first));
      const drawn = await Promise.all(machines.map((machine) => valuesAfter(machine, sources.progress)));
      for (const [index, values] of drawn.entries()) note(seen, values, first + index);
    }
    const expected = ["getrandom", "process", "urandom"];
    if (sources.progress.python !== undefined) {
      expected.push("helpless", "openssl", "random", "secrets", "uuid");
      // A generator that nobody reseeds. Were it not seen to repeat itself, the others would prove nothing.
      expect(seen.get("helpless")?.again.length).toBeGreaterThan(cloneCount / 2);
      seen.get("helpless")?.again.splice(0);
    }
    expect([...seen.keys()].sort()).toEqual(expected.sort());
    for (const [source, { again, clones }] of seen) {
      expect({ source, again, clones }).toEqual({ source, again: [], clones: cloneCount });
    }
    if (sources.progress.python === undefined) ctx.skip("the sources in Python: the host has no python3");
  });

  it("hand out no value twice, nor have a wrong clock, when they come from slots that have rehearsed", async () => {
    const seen = new Map<string, Seen>();
    const { snapshot } = sources;
    for (let round = 0; round < 4; round++) {
      expect(await node.client.keepSlots({ snapshot, slots: 1 })).toMatchObject({ ready: 1, problem: "" });
      await using machines = await clones(1);
      const [machine] = machines;
      if (machine === undefined) throw new Error("no machine");
      expect(machine.timings?.fromPool).toBe(true);
      note(seen, await valuesAfter(machine, sources.progress), round);
      const { offsetMs, uncertaintyMs } = await clockOffset(machine);
      expect(Math.abs(offsetMs) - uncertaintyMs).toBeLessThan(10);
    }
    await node.client.keepSlots({ snapshot, slots: 0 });
    for (const [source, { again }] of seen) {
      if (source !== "helpless") expect({ source, again }).toEqual({ source, again: [] });
    }
  });

  it("hand out no value twice, their parent included, when one of them is forked", async () => {
    await using machines = await clones(1);
    const [parent] = machines;
    if (parent === undefined) throw new Error("no machine");
    const request = { machine: parent.id, count: 3, ports };
    const { digest, machines: children } = await forked(node.client, request);
    try {
      const progress = await sources.progressOf(digest);
      const seen = new Map<string, Seen>();
      const all = [parent, ...children];
      const drawn = await Promise.all(all.map((machine) => valuesAfter(machine, progress)));
      for (const [index, values] of drawn.entries()) note(seen, values, index);
      for (const [source, { again, clones }] of seen) {
        if (source !== "helpless")
          expect({ source, again, clones }).toEqual({ source, again: [], clones: 4 });
      }
    } finally {
      for (const { id } of children) await node.client.removeMachine({ machine: id, force: true });
    }
  });

  it("have the host's clock", async () => {
    for (let round = 0; round < 3; round++) {
      await using machines = await clones(1);
      const [machine] = machines;
      if (machine === undefined) throw new Error("no machine");
      const { offsetMs, uncertaintyMs } = await clockOffset(machine);
      expect(Math.abs(offsetMs) - uncertaintyMs).toBeLessThan(10);
    }
  });

  it("tell programs that wait for the next generation, and only in the clone", async () => {
    await using machines = await clones(1);
    const [parent] = machines;
    if (parent === undefined) throw new Error("no machine");
    const script =
      "cat /run/sporelet/next-generation; echo $(cat /run/sporelet/generation-id) >/next; cat /run/sporelet/next-generation";
    const started = await shell(node.client, parent.id, `rm -f /next; (${script}) >/dev/null 2>&1 & echo on`);
    expect(started.stdout).toBe("on\n");
    const { machines: children } = await forked(node.client, { machine: parent.id, count: 1 });
    try {
      const [child] = children;
      if (child === undefined) throw new Error("no child");
      const wait = "until [ -s /next ]; do sleep 0.1; done; cat /next /run/sporelet/generation-id";
      const [told, id] = (await shell(node.client, child.id, wait)).stdout.trim().split("\n");
      expect(told).toBe(id);
      expect(id).toMatch(/^[0-9a-f-]{36}$/);
      expect(await shell(node.client, parent.id, "cat /next")).toMatchObject({ code: 1 });
    } finally {
      for (const { id } of children) await node.client.removeMachine({ machine: id, force: true });
    }
  });

  it("go on, as their parent does, after a fork", async () => {
    await using machines = await clones(1);
    const [parent] = machines;
    if (parent === undefined) throw new Error("no machine");
    const { machines: children } = await forked(node.client, { machine: parent.id, count: 1 });
    try {
      for (const { id } of [parent, ...children]) {
        const { stdout } = await shell(node.client, id, "cat /sys/fs/cgroup/*/cgroup.events");
        expect(stdout).toContain("frozen 0");
        expect(stdout).not.toContain("frozen 1");
      }
    } finally {
      for (const { id } of children) await node.client.removeMachine({ machine: id, force: true });
    }
  });
});
