import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { execOutput } from "@sporelet/api";
import { cloneFile } from "@sporelet/host";
import { temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { freezeMachine } from "../freeze.ts";
import type { ManagedMachine } from "../machine.ts";
import { readLazyRecord } from "./entry.ts";
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
  /** A place in memory. */
  const markedAt = 64 * 1024 * 1024;

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
  afterEach(() => {
    registry.faults.clear();
    delete process.env.SPORELET_PATIENCE_MS;
  });

  const shell = async (machine: ManagedMachine, script: string) => {
    if (machine.live === undefined) throw new Error("it does not run");
    const limit = AbortSignal.any([machine.gone.signal, AbortSignal.timeout(60_000)]);
    using agent = await machine.live.agent.lease(limit);
    const { stdout, stderr, code } = await execOutput(agent.client, { argv: ["sh", "-c", script] }, limit);
    if (code !== 0) throw new Error(`${script} ended with ${code}: ${stderr}`);
    return stdout.toString().trim();
  };
  const checks = "md5sum -c /data/sum && md5sum < /dev/vda | diff - /data/disk-sum && echo right";
  /** Mounts, directories, sockets and processes of lazy files. */
  const traces = async ({ node }: LocalNode) => {
    const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
    const left = mounts.filter((line) => line.includes(`${node.home}/store/lazy`));
    const sockets = (await readdir(node.runtimeDirectory)).filter((name) => name.startsWith("lazy"));
    return [...left, ...sockets, ...(await readdir(`${node.store.root}/lazy`).catch(() => []))];
  };
  const nothingLeft = (local: LocalNode) => expect.poll(() => traces(local), { timeout: 20_000 }).toEqual([]);
  const failureOf = (machine: ManagedMachine) =>
    expect.poll(() => machine.record.failure, { timeout: 30_000 });
  /** Frames beyond what a start needs do not come any more. */
  const stall = () => registry.faults.add({ on: "GET /blobs/", status: 503, times: 1_000_000 });

  it("runs a machine while its pages come, and makes a snapshot of them", async () => {
    await using local = await openLocalNode();
    const { node } = local;
    const lease = await node.lazy.start(start, signal);
    const machine = await local.run(lease, "one");
    const { fetchedBytes, totalBytes } = lease.snapshot.lazy.status;
    expect(fetchedBytes).toBeLessThan(totalBytes);
    lease[Symbol.dispose]();
    expect(await shell(machine, checks)).toContain("right");
    const stored = await node.lazy.settled(machine, signal);
    expect(stored?.digest).toBe(snapshot.digest);
    await node.store.verify(snapshot.digest);
    expect(await shell(machine, checks)).toContain("right");
    await local.remove(machine);
    await nothingLeft(local);
  });

  it("shares one fetch among all who start the same, and fetches nothing twice", async () => {
    await using local = await openLocalNode();
    const { node } = local;
    const before = registry.requests.length;
    const leases = await Promise.all([node.lazy.start(start, signal), node.lazy.start(start, signal)]);
    const machines = await Promise.all(leases.map((lease, n) => local.run(lease, `clone-${n}`)));
    for (const lease of leases) lease[Symbol.dispose]();
    const outputs = await Promise.all(machines.map((machine) => shell(machine, `${checks}; hostname`)));
    expect(outputs.map((text) => text.split("\n").at(-1))).toEqual(["clone-0", "clone-1"]);
    await node.lazy.settled(machines[0] as ManagedMachine, signal);
    const sent = registry.requests.slice(before).reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    const blobs = [...start.layers.memory, ...start.layers.disk, ...Object.values(start.layers.files)];
    expect(sent).toBeLessThan(1.05 * blobs.reduce((sum, { descriptor }) => sum + descriptor.size, 0));
  });

  it("serves everybody the pages of their own manifest, also when another one names the same config", async () => {
    await using local = await openLocalNode();
    await using scratch = await temporaryDirectory();
    const memory = path.join(scratch.path, "memory");
    await cloneFile(snapshot.files.memory, memory);
    const pageOf = async (file: string) => {
      await using handle = await open(file);
      return (await handle.read(Buffer.alloc(4096), 0, 4096, markedAt)).buffer;
    };
    {
      await using handle = await open(memory, "r+");
      await handle.write(Buffer.alloc(4096, "not what the config says "), 0, 4096, markedAt);
    }
    const other = { ...snapshot, files: { ...snapshot.files, memory } };
    const options = { scratch: scratch.path, repository: "evil/guest" };
    const evil = await publishForTest(registry, other, options);
    expect(evil.configBytes.equals(start.configBytes)).toBe(true);
    const theirs = await local.node.lazy.start(evil, signal);
    const ours = await local.node.lazy.start(start, signal);
    expect(await pageOf(theirs.snapshot.files.memory)).toEqual(await pageOf(memory));
    expect(await pageOf(ours.snapshot.files.memory)).toEqual(await pageOf(snapshot.files.memory));
    for (const lease of [theirs, ours]) lease[Symbol.dispose]();
    await expect(theirs.snapshot.lazy.complete).rejects.toMatchObject({ code: "corrupt" });
    expect((await ours.snapshot.lazy.complete).digest).toBe(snapshot.digest);
    await nothingLeft(local);
  });

  it("begins anew beside a fetch that has failed, which nobody joins any more", async () => {
    await using local = await openLocalNode();
    const { lazy } = local.node;
    const first = await lazy.start(start, signal);
    const joined = await lazy.start(start, signal);
    const wanted = { digest: snapshot.digest, ...start };
    expect(lazy.joins(wanted)).toBe(first.snapshot.lazy.complete);
    registry.faults.add({ on: "GET /blobs/", status: 403, times: 1_000_000 });
    first[Symbol.dispose]();
    await expect(first.snapshot.lazy.complete).rejects.toMatchObject({ hint: expect.any(String) });
    expect(lazy.joins(wanted)).toBeUndefined();
    registry.faults.clear();
    const again = await lazy.start(start, signal);
    again[Symbol.dispose]();
    expect((await again.snapshot.lazy.complete).digest).toBe(snapshot.digest);
    joined[Symbol.dispose]();
    await nothingLeft(local);
  });

  it("waits for the last of its files as patiently as for its pages", async () => {
    await using local = await openLocalNode();
    const lease = await local.node.lazy.start(start, signal);
    const kernel = start.layers.files.kernel?.descriptor.digest;
    registry.faults.add({ on: `GET ${kernel}`, status: 503, times: 15 });
    {
      // What nobody uses while its registry is away is given up.
      using _held = await local.node.lazy.start(start, signal);
      lease[Symbol.dispose]();
      expect((await lease.snapshot.lazy.complete).digest).toBe(snapshot.digest);
    }
    await nothingLeft(local);
  });

  describe("is refused before anything of it is made", () => {
    const config = () => JSON.parse(start.configBytes.toString());
    const withMemory = (change: object) => {
      const { files, ...rest } = config();
      return Buffer.from(
        JSON.stringify({ ...rest, files: { ...files, memory: { ...files.memory, ...change } } }),
      );
    };
    it.each<[string, () => Partial<LazyStart>, string, RegExp]>([
      [
        "its disk has no layers",
        () => ({ layers: { ...start.layers, disk: [] } }),
        "corrupt",
        /^disk is in its config and not in its layers/,
      ],
      [
        "there is no room for it",
        () => ({ configBytes: withMemory({ usedBytes: 2 ** 43 }) }),
        "resource_exhausted",
        /^it needs \d+ MiB/,
      ],
      [
        "its memory has another size than its config says",
        () => ({ configBytes: withMemory({ sizeBytes: 2 ** 28 + 4096 }) }),
        "corrupt",
        /^its memory has 268435456 bytes, and its config says 268439552/,
      ],
    ])("when %s", async (_, change, code, says) => {
      await using local = await openLocalNode();
      await expect(local.node.lazy.start({ ...start, ...change() }, signal)).rejects.toMatchObject({
        ...{ code, reason: expect.stringMatching(says), hint: expect.any(String) },
      });
      expect(await traces(local)).toEqual([]);
    });
  });

  it("keeps what machines write to themselves, before and after the disk is whole", async () => {
    await using local = await openLocalNode();
    const lease = await local.node.lazy.start(start, signal);
    const [one, two] = await Promise.all([local.run(lease, "one"), local.run(lease, "two")]);
    const write = (offset: number) =>
      `printf mine | dd of=/dev/vda bs=1 seek=${offset} conv=notrunc 2>/dev/null`;
    await shell(one, `${write(3_000_001)}; sync`);
    lease[Symbol.dispose]();
    await local.node.lazy.settled(one, signal);
    await shell(one, `${write(6_000_003)}; sync; echo 3 > /proc/sys/vm/drop_caches`);
    const read = (offset: number) => `dd if=/dev/vda bs=1 skip=${offset} count=4 2>/dev/null`;
    expect(await shell(one, `${read(3_000_001)}; ${read(6_000_003)}`)).toBe("minemine");
    expect(await shell(two, checks)).toContain("right");
    const disk = await readFile(path.join(one.record.directory, "disk"));
    expect(disk.subarray(3_000_001, 3_000_005).toString()).toBe("mine");
    disk.set((await readFile(snapshot.files.disk ?? "")).subarray(3_000_001, 3_000_005), 3_000_001);
    disk.set((await readFile(snapshot.files.disk ?? "")).subarray(6_000_003, 6_000_007), 6_000_003);
    expect(disk.equals(await readFile(snapshot.files.disk ?? ""))).toBe(true);
  });

  it("freezes a machine that was started lazily as a child of what it comes from", async () => {
    await using local = await openLocalNode();
    const { node } = local;
    const lease = await node.lazy.start(start, signal);
    const machine = await local.run(lease, "one");
    lease[Symbol.dispose]();
    await shell(machine, "echo changed > /data/more");
    const frozen = await freezeMachine(node, machine, { operation: "snapshot", tag: "child", signal });
    expect(frozen.snapshot.config.parent).toBe(snapshot.digest);
    expect(frozen.snapshot.config.files.memory.ownBytes).toBeLessThan(16 * 1024 * 1024);
    const child = await local.run(frozen, "two");
    expect(await shell(child, `cat /data/more; ${checks}`)).toMatch(/^changed\n.*OK\nright$/);
  });

  it("gets over a registry that stumbles", async () => {
    await using local = await openLocalNode();
    registry.faults.add(
      { on: "GET /blobs/", after: 3, dropAfterBytes: 100_000, times: 3 },
      { on: "GET /blobs/", after: 2, status: 503, times: 3 },
      { on: "GET /blobs/", after: 2, truncateToBytes: 50_000, times: 2 },
      { on: "GET /blobs/", after: 1, damage: true, times: 1 },
    );
    const lease = await local.node.lazy.start(start, signal);
    const machine = await local.run(lease, "one", 60_000);
    lease[Symbol.dispose]();
    expect(await shell(machine, checks)).toContain("right");
    expect((await local.node.lazy.settled(machine, signal))?.digest).toBe(snapshot.digest);
  });

  it("fails a machine whose registry is gone for good, says why, and leaves others alone", async () => {
    process.env.SPORELET_PATIENCE_MS = "1500";
    await using local = await openLocalNode();
    const lease = await local.node.lazy.start(start, signal);
    const one = await local.run(lease, "one");
    const other = await origin.run({ snapshot }, "other");
    stall();
    lease[Symbol.dispose]();
    await expect(shell(one, checks)).rejects.toThrow();
    await failureOf(one).toMatch(/^its pages could not be fetched any more: .*503/);
    expect(one.record.state).toBe("failed");
    expect(await shell(other, checks)).toContain("right");
    await nothingLeft(local);
    await origin.remove(other);
  });

  it("fails machines of a registry that lies", async () => {
    await using local = await openLocalNode();
    const lease = await local.node.lazy.start(start, signal);
    const machine = await local.run(lease, "one");
    registry.faults.add({ on: "GET /blobs/", damage: true, times: 1_000_000 });
    lease[Symbol.dispose]();
    await expect(shell(machine, checks)).rejects.toThrow();
    await failureOf(machine).toMatch(/are not those of sha256:/);
    await nothingLeft(local);
  });

  it("does not start from a registry that does not answer, and leaves nothing", async () => {
    await using local = await openLocalNode();
    registry.faults.add({ on: "GET /blobs/", status: 404, times: 1_000 });
    await expect(local.node.lazy.start(start, signal)).rejects.toMatchObject({ code: "not_found" });
    expect(await traces(local)).toEqual([]);
  });

  it("leaves nothing when a start is called off", async () => {
    await using local = await openLocalNode();
    registry.faults.add({ on: "GET /blobs/", stallAfterBytes: 10, times: 100 });
    const limit = AbortSignal.timeout(700);
    await expect(local.node.lazy.start(start, limit)).rejects.toMatchObject({ code: "deadline_exceeded" });
    expect(await traces(local)).toEqual([]);
  });

  it("fails machines whose server was killed", async () => {
    await using local = await openLocalNode();
    const lease = await local.node.lazy.start(start, signal);
    const machine = await local.run(lease, "one");
    const found = await readLazyRecord(lease.snapshot.directory);
    process.kill(found?.record.server.pid ?? 0, "SIGKILL");
    await failureOf(machine).toContain("the process that served its pages ended");
    await nothingLeft(local);
  });

  it("goes on without spored, and the next one takes machines and pages over", async () => {
    await using directory = await temporaryDirectory();
    const home = path.join(directory.path, "home");
    const file = path.join(directory.path, "start.json");
    const { configBytes, ...rest } = start;
    await writeFile(file, JSON.stringify({ ...rest, configText: configBytes.toString() }));
    const script = new URL("testing/spored-to-kill.ts", import.meta.url).pathname;
    const spored = spawn(process.execPath, [script, home, file], { stdio: ["ignore", "pipe", "inherit"] });
    await once(spored.stdout, "data");
    const ended = once(spored, "exit");
    spored.kill("SIGKILL");
    await ended;
    await using local = await openLocalNode(home);
    const machine = local.node.machines.find("one", "look at");
    expect(machine.record.state).toBe("running");
    expect(await shell(machine, checks)).toContain("right");
    const stored = await local.node.lazy.settled(machine, signal);
    expect(stored?.digest).toBe(snapshot.digest);
    await local.remove(machine);
    await nothingLeft(local);
  });
});
