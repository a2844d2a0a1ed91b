import { readdir } from "node:fs/promises";
import path from "node:path";
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
/** Its programs have ended their work: what they take of the host would delay the answers by which clocks are compared. */
const quiet = "quiet";
/** How many are started at once to see what that does to their clocks. */
const burst = 16;
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
    // One that draws no more, and goes on serving its clock.
    const [last] = await run(node.client, { snapshot: sources.snapshot, ports });
    if (last === undefined) throw new Error("no machine");
    await valuesAfter(last, sources.progress);
    await node.client.createSnapshot({ machine: last.id, tag: quiet });
    await node.client.removeMachine({ machine: last.id, force: true });
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const clones = async (
    count: number,
    snapshot = sources.snapshot,
  ): Promise<api.Machine[] & AsyncDisposable> => {
    const machines = await run(node.client, { snapshot, count, ports });
    return Object.assign(machines, {
      async [Symbol.asyncDispose]() {
        await Promise.all(machines.map(({ id }) => node.client.removeMachine({ machine: id, force: true })));
      },
    });
  };

  /** All that a machine draws after the instant at which its memory was frozen. */
  const allAfter = async (
    machine: api.Machine,
    progress: Sources["progress"],
    options?: { hooked: boolean },
  ): Promise<Values> => ({
    ...(await valuesAfter(machine, progress)),
    ...(await sources.drawnAfresh(machine.id, options)),
  });
  const expectRightClock = async (machine: api.Machine) => {
    const { offsetMs, uncertaintyMs } = await clockOffset(machine);
    expect(Math.abs(offsetMs) - uncertaintyMs, machine.name).toBeLessThan(10);
    // Else that would prove nothing.
    expect(uncertaintyMs).toBeLessThan(20);
  };

  it(`hand out no value twice, ${cloneCount} of them`, { timeout: 2_400_000 }, async (ctx) => {
    const seen = new Map<string, Seen>();
    let fromSlots = 0;
    const { snapshot, progress } = sources.hooked;
    for (let first = 0; first < cloneCount; first += batch) {
      // Every other batch comes from slots, whose guests have rehearsed.
      const slots = (first / batch) % 2 === 0 ? batch : 0;
      expect(await node.client.keepSlots({ snapshot, slots })).toMatchObject({ ready: slots, problem: "" });
      await using machines = await clones(Math.min(batch, cloneCount - first), snapshot);
      fromSlots += machines.filter(({ timings }) => timings?.fromPool).length;
      const drawn = await Promise.all(
        machines.map((machine) => allAfter(machine, progress, { hooked: true })),
      );
      for (const [index, values] of drawn.entries()) note(seen, values, first + index);
    }
    await node.client.keepSlots({ snapshot, slots: 0 });
    expect(fromSlots).toBeGreaterThanOrEqual(cloneCount / 2);
    const expected = ["getrandom", "process", "urandom", "watcher"];
    const has = (what: string) => !sources.missing.some((missing) => missing.startsWith(what));
    if (has("openssl rand")) expected.push("openssl_rand");
    if (has("hooks/50-signal-services")) expected.push("signalled");
    if (sources.progress.python !== undefined) {
      expected.push("helpless", "openssl", "random", "secrets", "uuid");
      expected.push("watched random", "watched openssl", "python_-c");
      // A generator that nobody reseeds. Were it not seen to repeat itself, the others would prove nothing.
      expect(seen.get("helpless")?.again.length).toBeGreaterThan(cloneCount / 2);
      seen.get("helpless")?.again.splice(0);
    }
    expect([...seen.keys()].sort()).toEqual(expected.sort());
    for (const [source, { again, clones }] of seen) {
      expect({ source, again, clones }).toEqual({ source, again: [], clones: cloneCount });
    }
    if (sources.missing.length > 0) ctx.skip(sources.missing.join("; "));
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
      note(seen, await allAfter(machine, sources.progress), round);
      await expectRightClock(machine);
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
      // The parent is told of no new generation: what watches it there goes on as it was.
      const { watching: _, ...unwatched } = progress;
      const drawn = await Promise.all([
        valuesAfter(parent, unwatched),
        ...children.map((machine) => allAfter(machine, progress)),
      ]);
      for (const [index, values] of drawn.entries()) note(seen, values, index);
      for (const [source, { again, clones }] of seen) {
        if (source === "helpless") continue;
        const drew = drawn.filter((values) => values[source] !== undefined).length;
        expect({ source, again, clones }).toEqual({ source, again: [], clones: drew });
      }
      for (const child of children) await expectRightClock(child);
    } finally {
      for (const { id } of children) await node.client.removeMachine({ machine: id, force: true });
    }
  });

  it("hand out no value twice, nor have a wrong clock, when they were suspended and are woken", async () => {
    await using machines = await clones(3);
    const seen = new Map<string, Seen>();
    for (const [index, { id, directory }] of machines.entries()) {
      await node.client.suspend({ machine: id });
      const [state = ""] = (await readdir(directory)).filter((name) => name.startsWith("state-"));
      const progress = await sources.progressIn(path.join(directory, state, "memory"));
      const woken = await node.client.wake({ machine: id });
      note(seen, await allAfter(woken, progress), index);
      await expectRightClock(woken);
    }
    for (const [source, { again, clones }] of seen) {
      if (source !== "helpless") expect({ source, again, clones }).toEqual({ source, again: [], clones: 3 });
    }
  });

  it("have the host's clock, one at a time", async () => {
    for (let round = 0; round < 3; round++) {
      await using machines = await clones(1);
      for (const machine of machines) await expectRightClock(machine);
    }
  });

  it.for([0, burst])(`have the host's clock, ${burst} at once, %d of them from slots`, async (slots) => {
    expect(await node.client.keepSlots({ snapshot: quiet, slots })).toMatchObject({
      ready: slots,
      problem: "",
    });
    await using machines = await clones(burst, quiet);
    await node.client.keepSlots({ snapshot: quiet, slots: 0 });
    expect(machines.filter(({ timings }) => timings?.fromPool)).toHaveLength(slots);
    await Promise.all(machines.map(expectRightClock));
  });

  it("have the host's clock, forks of one of them, all at once", async () => {
    await using machines = await clones(1, quiet);
    const [parent] = machines;
    if (parent === undefined) throw new Error("no machine");
    const { machines: children } = await forked(node.client, { machine: parent.id, count: 8, ports });
    try {
      await Promise.all(children.map(expectRightClock));
    } finally {
      for (const { id } of children) await node.client.removeMachine({ machine: id, force: true });
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
