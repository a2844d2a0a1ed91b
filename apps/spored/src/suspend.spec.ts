import { readdir } from "node:fs/promises";
import type { node as api } from "@sporelet/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildBase, run, shell, startTestNode, type TestNode, traces } from "./testing/node.ts";

const isRoot = process.getuid?.() === 0;

it("suspends real guests", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)("a suspended machine", () => {
  let node: TestNode;

  beforeAll(async () => {
    node = await startTestNode();
    await buildBase(node.client);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const started = async (request: Partial<api.RunRequest> = {}): Promise<api.Machine> => {
    const [machine] = await run(node.client, request as never);
    if (machine === undefined) throw new Error("no machine");
    return machine;
  };
  const remove = (machine: api.Machine) => node.client.removeMachine({ machine: machine.id, force: true });
  const statesOf = async (machine: api.Machine) =>
    (await readdir(machine.directory)).filter((name) => name.startsWith("state-"));

  it("has no process, and goes on where it was as the same machine", async () => {
    const before = await started({ env: { GREETING: "hello" } });
    const machine = before.name;
    const setUp = "dd if=/dev/urandom of=/tmp/data bs=1M count=20 2>/dev/null; sha256sum </tmp/data";
    const { stdout: digest } = await shell(node.client, machine, setUp);
    await shell(node.client, machine, "sleep 100000 >/dev/null 2>&1 </dev/null & echo $! >/tmp/pid");
    const suspended = await node.client.suspend({ machine });
    expect(suspended).toMatchObject({ state: "suspended", pid: 0, id: before.id });
    expect((await traces(node.home)).filter((line) => line.startsWith("process"))).toEqual([]);
    const woken = await node.client.wake({ machine });
    expect(woken).toMatchObject({ state: "running", id: before.id, machineId: before.machineId });
    expect(woken.generationId).not.toBe(before.generationId);
    expect((await shell(node.client, machine, "sha256sum </tmp/data")).stdout).toBe(digest);
    expect((await shell(node.client, machine, "kill -0 $(cat /tmp/pid) && echo lives")).stdout).toBe(
      "lives\n",
    );
    expect((await shell(node.client, machine, "echo $GREETING")).stdout).toBe("hello\n");
    const { stdout: now } = await shell(node.client, machine, "date +%s");
    expect(Math.abs(Number(now) * 1000 - Date.now())).toBeLessThan(2000);
    expect(await statesOf(before)).toHaveLength(1);
    await remove(before);
  });
});
