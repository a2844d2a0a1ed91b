import { randomUUID } from "node:crypto";
import { open, readdir, readFile, rm, truncate } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { node as api } from "@sporelet/api";
import { cloneFile, runProcess, runtimeDirectoryOf } from "@sporelet/host";
import { freePorts } from "@sporelet/host/testing";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  clockErrorMs,
  type RunRequest,
  run,
  shell,
  startTestNode,
  type TestNode,
  traces,
} from "./testing/node.ts";
import { buildWorker, endWork, portOf, sound, verify, visit, workerPort } from "./testing/worker.ts";

const isRoot = process.getuid?.() === 0;
const ports = [{ host: 0, guest: workerPort }];

it("suspends real guests", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

/** Changes the boot that a journal of pages names (page-journal.ts). */
async function wroteBeforeReboot(journal: string): Promise<void> {
  await using file = await open(journal, "r+");
  const { size } = await file.stat();
  const { buffer } = await file.read(Buffer.alloc(36), 0, 36, size - 60);
  expect(buffer.toString("latin1")).toBe(
    (await readFile("/proc/sys/kernel/random/boot_id", "latin1")).trim(),
  );
  await file.write(randomUUID(), size - 60, "latin1");
}

describe.runIf(isRoot)("a machine that is suspended", () => {
  let node: TestNode;

  beforeAll(async () => {
    node = await startTestNode();
    await buildWorker(node);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    // A test that failed may have left none.
    const { machines } = await (await node.reconnect()).listMachines({});
    for (const { id } of machines) await node.client.removeMachine({ machine: id, force: true });
    expect(await traces(node.home)).toEqual([]);
  });

  const started = async (request: RunRequest = {}): Promise<api.Machine> => {
    const [machine] = await run(node.client, {
      snapshot: "worker",
      name: "sleeper",
      // Taken again when it wakes.
      ports: [{ host: await freePorts(), guest: workerPort }],
      ...request,
    });
    if (machine === undefined) throw new Error("no machine");
    return machine;
  };
  const suspend = () => node.client.suspend({ machine: "sleeper" });
  const wake = (env: Record<string, string> = {}) => node.client.wake({ machine: "sleeper", env });
  const statesOf = async ({ directory }: api.Machine) =>
    (await readdir(directory)).filter((name) => name.startsWith("state-"));
  const snapshots = async () => (await node.client.listSnapshots({})).snapshots.map(({ digest }) => digest);

  it("has no process, no network and no socket, and goes on as the machine that it was", async () => {
    const before = await started({ env: { GREETING: "hello" } });
    const worked = await verify(portOf(before));
    const known = await snapshots();
    expect(await suspend()).toMatchObject({ state: "suspended", pid: 0, id: before.id, ports: before.ports });
    expect(await traces(node.home)).toEqual([`directory ${before.id}`, `socket ${before.id}.env`]);
    expect(await snapshots()).toEqual(known);
    expect((await node.client.listMachines({})).machines).toMatchObject([{ state: "suspended" }]);

    const after = await wake();
    const { id, name, hostname, machineId, directory, generationId } = before;
    expect(after).toMatchObject({ ...{ id, name, hostname, machineId, directory }, state: "running" });
    expect(after.generationId).not.toBe(generationId);
    expect(portOf(after)).toBe(portOf(before));
    const report = await verify(portOf(after));
    expect(report.problems).toEqual(sound);
    expect(report.pages).toBeGreaterThanOrEqual(worked.pages);
    expect(report.records).toBeGreaterThanOrEqual(worked.records);
    const asked = Date.now();
    const { stdout } = await shell(
      node.client,
      id,
      "hostname; cat /etc/machine-id; echo $GREETING; date +%s",
    );
    const answered = Date.now();
    const [host, identity, greeting, seconds] = stdout.trim().split("\n");
    expect([host, identity, greeting]).toEqual([hostname, machineId, "hello"]);
    expect(clockErrorMs(Number(seconds), asked, answered)).toBeLessThan(1000);
  });

  it("keeps the SSH host keys that its clients know, and its clones get others", async () => {
    const { id } = await started();
    const file = "/etc/ssh/ssh_host_ed25519_key.pub";
    const keyOf = async (machine: string) => (await shell(node.client, machine, `cat ${file}`)).stdout;
    await shell(
      node.client,
      id,
      `mkdir -p /etc/ssh; echo known | tee ${file} >/etc/ssh/ssh_host_ed25519_key`,
    );
    await suspend();
    await wake();
    expect(await keyOf(id)).toBe("known\n");
    await node.client.createSnapshot({ machine: id, tag: "with-keys" });
    const [clone] = await run(node.client, { snapshot: "with-keys" });
    expect(await keyOf(clone?.id ?? "")).toMatch(/^ssh-ed25519 /);
    await node.client.removeMachine({ machine: clone?.id ?? "", force: true });
    await node.client.removeSnapshot({ snapshot: "with-keys" });
  });

  it("is suspended and woken again and again, loses nothing, and leaves one state", async () => {
    const machine = await started();
    const known = await snapshots();
    let last = await verify(portOf(machine));
    for (let round = 0; round < 10; round++) {
      await suspend();
      await wake();
      await sleep(100); // It works meanwhile.
      const report = await verify(portOf(machine));
      expect(report.problems).toEqual(sound);
      expect(report.records).toBeGreaterThan(last.records);
      expect(await statesOf(machine)).toHaveLength(1);
      last = report;
    }
    expect(await snapshots()).toEqual(known);
    await endWork(portOf(machine));
    expect(await shell(node.client, machine.id, "umount /disk")).toMatchObject({ code: 0 });
    await node.client.stop({ machine: machine.id });
    expect(await statesOf(machine)).toEqual([]);
    const disk = path.join(machine.directory, "disk");
    await runProcess(["e2fsck", "-f", "-n", disk], { operation: `check the file system in ${disk}` });
  });

  it("survives the end of its spored, with its environment", async () => {
    const before = await started({ env: { GREETING: "hello" } });
    await suspend();
    await node.kill();
    await node.reconnect();
    expect((await node.client.listMachines({})).machines).toMatchObject([{ state: "suspended" }]);
    await wake();
    expect((await verify(portOf(before))).problems).toEqual(sound);
    expect((await shell(node.client, "sleeper", "echo $GREETING")).stdout).toBe("hello\n");
    // And once more, when it runs.
    await node.kill();
    await node.reconnect();
    await suspend();
    await wake();
    expect((await verify(portOf(before))).problems).toEqual(sound);
  });

  it("survives a host that goes down before all of its memory is on the disk", async () => {
    const machine = await started();
    const worked = await verify(portOf(machine));
    await suspend();
    await node.kill();
    // What the disk has then: the memory as it was cloned, and its journal.
    const [name = ""] = await statesOf(machine);
    const inState = (file: string) => path.join(machine.directory, name, file);
    await node.reconnect();
    const { directory } = await node.client.inspectSnapshot({ snapshot: "worker" });
    await rm(inState("memory"));
    await cloneFile(path.join(directory, "memory"), inState("memory"), {});
    await wroteBeforeReboot(inState("pages"));
    await wake();
    const report = await verify(portOf(machine));
    expect(report.problems).toEqual(sound);
    expect(report.records).toBeGreaterThanOrEqual(worked.records);
  });

  it.for([
    ["a power failure left empty", (file: string) => truncate(file)],
    ["is lost", (file: string) => rm(file)],
  ] as const)("is kept aside as a whole when its record %s, and doctor says where", async ([, damage]) => {
    const machine = await started();
    await suspend();
    const [state = ""] = await statesOf(machine);
    await node.kill();
    await damage(path.join(machine.directory, "machine.json"));
    await node.reconnect();
    expect((await node.client.listMachines({})).machines).toEqual([]);
    const aside = path.join(node.home, "store/corrupt");
    const files = await readdir(path.join(aside, machine.id, state));
    expect(files).toEqual(expect.arrayContaining(["config.json", "disk", "memory", "vmstate"]));
    const { checks } = await node.client.doctor({});
    expect(checks.find(({ id }) => id === "store.corrupt")).toMatchObject({
      finding: expect.stringContaining(machine.id),
      remedy: expect.stringContaining(aside),
    });
    await rm(aside, { recursive: true });
  });

  it("asks for its environment when a reboot has taken it", async () => {
    await started({ env: { TOKEN: "secret", OTHER: "1" } });
    const { id } = await suspend();
    await rm(path.join(runtimeDirectoryOf(node.home), `${id}.env`));
    await expect(wake()).rejects.toMatchObject({
      code: "failed_precondition",
      reason: expect.stringContaining("TOKEN, OTHER"),
      hint: "sporectl wake -e TOKEN=VALUE -e OTHER=VALUE sleeper",
    });
    expect(await node.client.inspectMachine({ machine: id })).toMatchObject({
      state: "suspended",
      failure: expect.stringContaining("its environment is lost"),
    });
    expect(await wake({ TOKEN: "new", OTHER: "2" })).toMatchObject({ state: "running", failure: "" });
    expect((await shell(node.client, id, "echo $TOKEN $OTHER")).stdout).toBe("new 2\n");
  });

  it("is woken by a command, and by nothing else that needs a running machine", async () => {
    const machine = await started();
    await suspend();
    const refused = { code: "failed_precondition", reason: "it is suspended", hint: "sporectl wake sleeper" };
    const { client } = node;
    await expect(client.pause({ machine: "sleeper" })).rejects.toMatchObject(refused);
    await expect(client.createSnapshot({ machine: "sleeper", tag: "no" })).rejects.toMatchObject(refused);
    await expect(client.fork({ machine: "sleeper" })[Symbol.asyncIterator]().next()).rejects.toMatchObject(
      refused,
    );
    await expect(client.removeMachine({ machine: "sleeper" })).rejects.toMatchObject({
      code: "failed_precondition",
      reason: "it is suspended",
    });
    expect(await suspend()).toMatchObject({ state: "suspended" });
    for await (const { machines } of client.stats({ machines: [machine.id] })) {
      expect(machines).toMatchObject([{ state: "suspended", rssBytes: 0n }]);
    }
    expect((await shell(client, "sleeper", "echo here")).stdout).toBe("here\n");
    expect(await wake()).toMatchObject({ state: "running" });
  });

  it("may have been paused before; then it runs when it wakes", async () => {
    const machine = await started();
    await node.client.pause({ machine: "sleeper" });
    expect(await suspend()).toMatchObject({ state: "suspended" });
    expect(await wake()).toMatchObject({ state: "running" });
    expect((await verify(portOf(machine))).problems).toEqual(sound);
  });

  it("stays suspended and whole when a port of it was taken, and wakes when that is free again", async () => {
    const machine = await started();
    await suspend();
    const other = createServer().listen(portOf(machine), "127.0.0.1");
    await expect(wake()).rejects.toMatchObject({ code: "already_exists" });
    expect(await traces(node.home)).toEqual([`directory ${machine.id}`]);
    expect(await node.client.inspectMachine({ machine: "sleeper" })).toMatchObject({
      state: "suspended",
      failure: expect.stringContaining("it did not wake"),
    });
    await new Promise((resolve) => other.close(resolve));
    expect(await wake()).toMatchObject({ state: "running", failure: "" });
    expect((await verify(portOf(machine))).problems).toEqual(sound);
  });

  it("needs nothing of the store but its own directory, which the collector leaves alone", async () => {
    const machine = await started();
    await node.client.createSnapshot({ machine: "sleeper", tag: "copy" });
    await node.client.removeMachine({ machine: "sleeper", force: true });
    const other = await started({ snapshot: "copy" });
    await suspend();
    const { removed } = await node.client.collectCache({});
    expect(removed.filter(({ kind }) => kind === "machine" || kind === "snapshot")).toEqual([]);
    await expect(node.client.removeSnapshot({ snapshot: "copy" })).rejects.toMatchObject({
      code: "failed_precondition",
    });
    await node.client.removeSnapshot({ snapshot: "copy", force: true });
    await node.client.collectCache({});
    await wake();
    expect((await verify(portOf(other))).problems).toEqual(sound);
    expect(other.id).not.toBe(machine.id);
  });

  it("makes children of the snapshot that it comes from when it is awake", async () => {
    const machine = await started();
    await suspend();
    await wake();
    const snapshot = await node.client.createSnapshot({ machine: "sleeper", tag: "later" });
    expect(snapshot.parent).toBe(machine.snapshotDigest);
    expect((await node.client.verifySnapshot({ snapshot: "later" })).verified).toBe(true);
    expect(snapshot.memoryOwnBytes).toBeLessThan(snapshot.memoryUsedBytes);
    const [clone] = await run(node.client, { snapshot: "later", ports });
    expect((await verify(portOf(clone))).problems).toEqual(sound);
    expect(await visit(portOf(clone))).toBeGreaterThan(0);
    await node.client.removeMachine({ machine: clone?.id ?? "", force: true });
    await node.client.removeSnapshot({ snapshot: "later" });
  });

  it("is woken once by many connections, and answers all", async () => {
    const machine = await started({ wakeOnConnect: true });
    const answered = await visit(portOf(machine));
    await suspend();
    const answers = await Promise.all(Array.from({ length: 50 }, () => visit(portOf(machine))));
    expect(answers.toSorted((a, b) => a - b)).toEqual(answers.map((_, i) => answered + 1 + i));
    const { generationId, state } = await node.client.inspectMachine({ machine: "sleeper" });
    expect([state, generationId === machine.generationId]).toEqual(["running", false]);
    expect((await verify(portOf(machine))).problems).toEqual(sound);
    const log = await readFile(path.join(node.home, "spored.log"), "utf8");
    expect(
      log.split("\n").filter((line) => line.includes(`"machine woken"`) && line.includes(machine.id)),
    ).toHaveLength(1);
  });

  it("gives its state up when it is stopped", async () => {
    const machine = await started();
    await suspend();
    expect(await node.client.stop({ machine: "sleeper" })).toMatchObject({ state: "stopped", ports: [] });
    expect(await statesOf(machine)).toEqual([]);
    await expect(wake()).rejects.toMatchObject({ code: "failed_precondition", reason: "it is stopped" });
  });

  it("was booted rather than resumed: that makes no difference", async () => {
    for await (const _event of node.client.boot({ snapshot: "seed", name: "sleeper" }));
    await shell(node.client, "sleeper", "echo here >/tmp/file");
    await suspend();
    expect(await wake()).toMatchObject({ state: "running", origin: "boot" });
    expect((await shell(node.client, "sleeper", "cat /tmp/file")).stdout).toBe("here\n");
    await suspend();
    expect((await shell(node.client, "sleeper", "cat /tmp/file")).stdout).toBe("here\n");
    await node.client.createSnapshot({ machine: "sleeper", tag: "booted" });
    expect((await node.client.verifySnapshot({ snapshot: "booted" })).verified).toBe(true);
    await node.client.removeSnapshot({ snapshot: "booted" });
  });
});
