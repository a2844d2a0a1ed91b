import { readdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { node as api } from "@sporelet/api";
import { freePorts } from "@sporelet/host/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run, startTestNode, type TestNode, traces } from "./testing/node.ts";
import { buildWorker, portOf, sound, verify, type WorkerReport, workerPort } from "./testing/worker.ts";

const isRoot = process.getuid?.() === 0;
const kills = Number(process.env.SPORELET_TEST_KILLS ?? 20);
/** So many of them when the operation has ended, at whatever time that is. */
const afterTheEnd = 2;
/** Each kill is followed by the start of a spored. */
const timeoutMs = 60_000 + kills * 15_000;

it("is killed while it suspends and wakes real guests", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)(`a spored that is killed at ${kills} instants`, () => {
  let node: TestNode;
  let machine: api.Machine;

  beforeAll(async () => {
    node = await startTestNode();
    await buildWorker(node);
    // Taken again by the next spored, and when it wakes.
    const ports = [{ host: await freePorts(), guest: workerPort }];
    const [started] = await run(node.client, { snapshot: "worker", name: "sleeper", ports });
    if (started === undefined) throw new Error("no machine");
    machine = started;
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const suspend = () => node.client.suspend({ machine: "sleeper" });
  const wake = () => node.client.wake({ machine: "sleeper" });
  const state = async () => (await node.client.inspectMachine({ machine: "sleeper" })).state;

  /**
   * Kills spored at instants spread over the time that one takes, and looks at what the next spored finds: the
   * machine runs or is suspended, whole either way, and nothing is left of what was not finished.
   *
   * @returns the states that were found
   */
  const killedDuring = async (
    begin: () => Promise<unknown>,
    operation: () => Promise<unknown>,
  ): Promise<Set<string>> => {
    // As long as it takes a spored that has just started, like all that are killed.
    await node.kill();
    await node.reconnect();
    await begin();
    const began = performance.now();
    await operation();
    const tookMs = performance.now() - began;
    const found = new Set<string>();
    let before: WorkerReport | undefined;
    for (let n = 1; n <= kills; n++) {
      await begin();
      const going = operation().catch(() => {});
      await (n <= kills - afterTheEnd ? sleep((tookMs * 1.1 * n) / kills) : going);
      await node.kill();
      await going;
      await node.reconnect();
      const now = await state();
      found.add(now);
      const left = await traces(node.home);
      if (now === "suspended") expect(left).toEqual([`directory ${machine.id}`]);
      else expect(left.filter((line) => !line.includes(machine.id))).toEqual([]);
      const states = (await readdir(machine.directory)).filter((name) => name.startsWith("state-"));
      expect(states.length).toBeLessThanOrEqual(1);
      await wake();
      const report = await verify(portOf(machine));
      expect(report.problems).toEqual(sound);
      expect(report.records).toBeGreaterThanOrEqual(before?.records ?? 0);
      before = report;
    }
    return found;
  };

  it("while it suspends: the machine runs, or is suspended as a whole", { timeout: timeoutMs }, async () => {
    expect([...(await killedDuring(wake, suspend))].sort()).toEqual(["running", "suspended"]);
  });

  it("while it wakes: the machine is suspended as a whole, or runs", { timeout: timeoutMs }, async () => {
    expect([...(await killedDuring(suspend, wake))].sort()).toEqual(["running", "suspended"]);
  });
});
