import { readdir, readFile } from "node:fs/promises";
import { ownerOf } from "@sporelet/host";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildBase, run, shell, startTestNode, type TestNode, traces } from "./testing/node.ts";

const none = { cpus: 0, memoryBytes: 0n, ioBytesPerSecond: 0n };
const MiB = 1024n * 1024n;
const root = process.getuid?.() === 0;
const merging = async () => (await readFile("/sys/kernel/mm/ksm/run", "utf8").catch(() => "none")).trim();
const canMerge = root && (await merging()) === "0";

describe("what machines may take of their host", () => {
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
    await node.client.keepSlots({ snapshot: "base", slots: 0 });
    expect(await traces(node.home)).toEqual([]);
    expect(await groups()).toEqual([]);
  });

  /** Control groups of this home, in whatever hierarchy. */
  const groups = async (): Promise<string[]> => {
    const hierarchies = (await readFile("/proc/mounts", "utf8"))
      .split("\n")
      .flatMap((line) => /^cgroup2? (\S+) /.exec(line)?.[1] ?? []);
    const names = await Promise.all(hierarchies.map((path) => readdir(`${path}/sporelet`).catch(() => [])));
    return names.flat().filter((name) => name.startsWith(ownerOf(node.home)));
  };
  const inspect = (machine: string) => node.client.inspectMachine({ machine });
  const groupOf = async (pid: number) =>
    (await readFile(`/proc/${pid}/cgroup`, "utf8"))
      .split("\n")
      .filter((line) => line.includes(`sporelet/${ownerOf(node.home)}`));

  it.skipIf(!root)("is limited as asked, from a slot and without one, and kept in mind", async () => {
    const limits = { ...none, cpus: 0.5, memoryBytes: 512n * MiB };
    await node.client.keepSlots({ snapshot: "base", slots: 1 });
    const clones = await run(node.client, { count: 2, limits });
    expect(clones.map(({ timings }) => timings?.fromPool).sort()).toEqual([false, true]);
    for (const { id, pid } of clones) {
      expect((await inspect(id)).limits).toMatchObject(limits);
      expect((await groupOf(pid)).length).toBeGreaterThan(0);
      expect((await shell(node.client, id, "true")).code).toBe(0);
    }
    await node.kill();
    await node.reconnect();
    for (const { id, pid } of clones) {
      expect(await inspect(id)).toMatchObject({ state: "running", limits });
      expect((await groupOf(pid)).length).toBeGreaterThan(0);
    }
  });

  it.skipIf(!root)("ends a machine that takes more memory, which says so", async () => {
    await node.client.warmCache({ snapshot: "base" });
    const [machine] = await run(node.client, {
      name: "greedy",
      limits: { ...none, memoryBytes: 128n * MiB },
    });
    const fill = "mkdir /t && mount -t tmpfs -o size=200m t /t && dd if=/dev/urandom of=/t/f bs=1M count=180";
    await expect(shell(node.client, machine?.id ?? "", fill)).rejects.toMatchObject({
      code: expect.any(String),
    });
    await expect.poll(async () => (await inspect("greedy")).state, { timeout: 20_000 }).toBe("failed");
    expect((await inspect("greedy")).failure).toMatch(/took more than its memory limit of 128 MiB/);
  });

  it.skipIf(!root)("ends a machine in its resume too, and the run says why", async () => {
    await run(node.client, { name: "parent" });
    const hooks = "/etc/sporelet/hooks/after-resume.d";
    const fill =
      "#!/bin/sh\\nmkdir /t; mount -t tmpfs -o size=200m t /t; dd if=/dev/zero of=/t/f bs=1M count=180\\n";
    const { code } = await shell(
      node.client,
      "parent",
      `mkdir -p ${hooks} && printf '${fill}' >${hooks}/10-fill && chmod 755 ${hooks}/10-fill`,
    );
    expect(code).toBe(0);
    await node.client.createSnapshot({ machine: "parent", tag: "filling" });
    // So that its pages are charged to whoever reads them here, and the limit is for what the machine writes.
    await node.client.warmCache({ snapshot: "filling" });
    const limits = { ...none, memoryBytes: 96n * MiB };
    await expect(run(node.client, { snapshot: "filling", limits })).rejects.toMatchObject({
      code: "resource_exhausted",
      message: expect.stringMatching(/took more than its memory limit of 96 MiB/),
    });
    await node.client.removeMachine({ machine: "parent", force: true });
    await node.client.removeSnapshot({ snapshot: "filling" });
  });

  it.skipIf(!root)("holds again after a sleep", async () => {
    const limits = { cpus: 0.5, memoryBytes: 512n * MiB, ioBytesPerSecond: MiB };
    await run(node.client, { name: "sleeper", limits });
    await node.client.suspend({ machine: "sleeper" });
    expect(await groups()).toEqual([]);
    const { pid } = await node.client.wake({ machine: "sleeper" });
    expect((await groupOf(pid)).length).toBeGreaterThan(0);
    expect((await inspect("sleeper")).limits).toMatchObject(limits);
  });

  it.skipIf(!canMerge)(
    "is merged again after a sleep, in which another domain may have the host",
    async () => {
      await run(node.client, { name: "sleeper", ksm: "team-a" });
      await node.client.suspend({ machine: "sleeper" });
      expect(await merging()).toBe("0");
      await run(node.client, { name: "other", ksm: "team-b" });
      await expect(node.client.wake({ machine: "sleeper" })).rejects.toMatchObject({
        code: "failed_precondition",
      });
      await node.client.removeMachine({ machine: "other", force: true });
      const { pid } = await node.client.wake({ machine: "sleeper" });
      expect(await readFile(`/proc/${pid}/ksm_stat`, "utf8")).toMatch(/ksm_merge_any: yes/);
      expect(await merging()).toBe("1");
      await node.client.removeMachine({ machine: "sleeper", force: true });
      expect(await merging()).toBe("0");
    },
  );

  it.each([
    [{ ...none, cpus: -1 }, /-1 CPUs cannot be a limit/],
    [{ ...none, cpus: Number.NaN }, /NaN CPUs cannot be a limit/],
    [{ ...none, memoryBytes: 4096n }, /4096 bytes of memory are too little/],
    [{ ...none, ioBytesPerSecond: 1n }, /1 bytes per second are too few/],
  ])("is refused when it is no limit: %o", async (limits, message) => {
    await expect(run(node.client, { limits })).rejects.toMatchObject({
      code: "invalid_argument",
      message: expect.stringMatching(message),
    });
  });

  it.skipIf(!canMerge)("is merged within one trust domain at a time", async () => {
    await node.client.keepSlots({ snapshot: "base", slots: 1 });
    const [first] = await run(node.client, { name: "first", ksm: "team-a" });
    expect(first).toMatchObject({ ksm: "team-a", timings: { fromPool: false } });
    expect(await readFile(`/proc/${first?.pid}/ksm_stat`, "utf8")).toMatch(/ksm_merge_any: yes/);
    expect(await merging()).toBe("1");
    await expect(run(node.client, { ksm: "team-b" })).rejects.toMatchObject({
      code: "failed_precondition",
      message: expect.stringMatching(/machines of the domain team-a are merged on this host/),
    });
    await node.kill();
    await node.reconnect();
    expect(await merging()).toBe("1");
    const [other] = await run(node.client, { name: "other", ksm: "team-a" });
    await node.client.removeMachine({ machine: "first", force: true });
    expect(await merging()).toBe("1");
    process.kill(other?.pid ?? 0, "SIGKILL");
    await expect.poll(async () => (await inspect("other")).state, { timeout: 20_000 }).toBe("failed");
    await expect.poll(merging).toBe("0");
    const [unmerged] = await run(node.client);
    expect(await readFile(`/proc/${unmerged?.pid}/ksm_stat`, "utf8")).toMatch(/ksm_merge_any: no/);
  });

  it("is not merged for a domain without a name", async () => {
    await expect(run(node.client, { ksm: "team a" })).rejects.toMatchObject({ code: "invalid_argument" });
  });
});
