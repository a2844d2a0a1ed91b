import { readdir, readFile } from "node:fs/promises";
import { execOutput } from "@sporelet/api";
import { temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ManagedMachine } from "../machine.ts";
import { storeFrozenGuest } from "./testing/frozen-guest.ts";
import { type LocalNode, openLocalNode } from "./testing/local-node.ts";
import { publishForTest } from "./testing/publish.ts";
import type { LazyStart } from "./types.ts";

const reason = whyNoMounts();

it("starts machines lazily", (ctx) => {
  if (reason) ctx.skip(reason);
});

describe.runIf(reason === undefined)("a lazy start", () => {
  let origin: LocalNode;
  let snapshot: StoredSnapshot;
  let registry: TestRegistry;
  let start: LazyStart;
  const signal = new AbortController().signal;

  beforeAll(async () => {
    origin = await openLocalNode();
    snapshot = await storeFrozenGuest(origin.node, "guest");
    registry = await startTestRegistry();
    await using scratch = await temporaryDirectory();
    start = await publishForTest(registry, snapshot, { scratch: scratch.path });
  });
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]();
    await origin?.[Symbol.asyncDispose]();
  });
  beforeEach(() => registry.faults.clear());

  const shell = async (machine: ManagedMachine, script: string) => {
    if (machine.live === undefined) throw new Error("it does not run");
    using agent = await machine.live.agent.lease(AbortSignal.timeout(30_000));
    const { stdout, stderr, code } = await execOutput(agent.client, { argv: ["sh", "-c", script] });
    if (code !== 0) throw new Error(`${script} ended with ${code}: ${stderr}`);
    return stdout.toString().trim();
  };
  const checks = "md5sum -c /data/sum && md5sum < /dev/vda | diff - /data/disk-sum && echo right";
  const traces = async ({ node }: LocalNode) => {
    const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
    const left = mounts.filter((line) => line.includes(`${node.home}/store/lazy`));
    return [...left, ...(await readdir(`${node.store.root}/lazy`).catch(() => []))];
  };

  it("runs a machine while its pages come, and makes a snapshot of them", async () => {
    await using local = await openLocalNode();
    const { node } = local;
    const lease = await node.lazy.start(start, signal);
    const machine = await local.run(lease, "one");
    const fetched = lease.snapshot.lazy.status.fetchedBytes;
    lease[Symbol.dispose]();
    expect(await shell(machine, checks)).toContain("right");
    const stored = await node.lazy.settled(machine, signal);
    expect(stored?.digest).toBe(snapshot.digest);
    expect(fetched).toBeLessThan(lease.snapshot.lazy.status.totalBytes);
    await node.store.verify(snapshot.digest);
    expect(await shell(machine, checks)).toContain("right");
    await local.remove(machine);
    await expect.poll(() => traces(local)).toEqual([]);
  });
});
