import { chmod, readdir, readFile, truncate } from "node:fs/promises";
import path from "node:path";
import type { node as api } from "@sporelet/api";
import { openStore } from "@sporelet/store";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { storeForeign } from "./testing/foreign.ts";
import { buildBase, shell, startTestNode, type TestNode, traces } from "./testing/node.ts";

const otherVersion = { vmm: { version: "6.0.0 machine 2" } };

interface Told {
  machines: api.Machine[];
  notices: string[];
  steps: string[];
}

describe("a snapshot whose state this host cannot restore", () => {
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
    await node.reconnect();
    await removeAll();
  });

  async function run(
    request: { snapshot: string; name?: string; count?: number; timeoutMs?: number },
    options: { signal?: AbortSignal; onStep?: (step: string) => void } = {},
  ): Promise<Told> {
    const told: Told = { machines: [], notices: [], steps: [] };
    const { onStep, ...call } = options;
    for await (const { event } of node.client.run({ remove: true, ...request }, call)) {
      if (event.case === "ready") told.machines.push(event.value);
      if (event.case === "notice") told.notices.push(event.value);
      if (event.case === "step") {
        told.steps.push(`${event.value.id} ${event.value.state}`);
        onStep?.(`${event.value.id} ${event.value.state}`);
      }
    }
    return told;
  }
  const config = async (digest = "") =>
    JSON.parse((await node.client.inspectSnapshot({ snapshot: digest })).configJson);
  const removeAll = async () => {
    for (const { id } of (await node.client.listMachines({})).machines)
      await node.client.removeMachine({ machine: id, force: true });
  };
  const standInsFor = async (digest: string) => {
    const { snapshots } = await node.client.listSnapshots({});
    return snapshots.filter(({ configJson }) => JSON.parse(configJson).recipe?.from === digest);
  };
  /** Processes that work in the store, those of half-made machines included. */
  const processes = async () => {
    const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
    const commands = pids.map(
      async (pid) => `${pid} ${await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "")}`,
    );
    return (await Promise.all(commands)).filter((command) =>
      command.includes(path.join(node.home, "store/tmp")),
    );
  };

  /** Stops the process of a half-made machine. @returns whether there was one before the run was over */
  const stopWhenThere = async (running: Promise<unknown>): Promise<boolean> => {
    let over = false;
    const end = () => {
      over = true;
    };
    running.then(end, end);
    while (!over) {
      const [line] = await processes();
      if (line !== undefined) return process.kill(Number.parseInt(line, 10), "SIGSTOP");
    }
    return false;
  };

  it("is booted once, frozen here, and resumed from that", async () => {
    const foreign = await storeForeign(node.home, "base", "foreign", otherVersion);
    const first = await run({ snapshot: "foreign", name: "first", count: 2 });
    expect(first.machines.map(({ state, origin }) => ({ state, origin }))).toEqual([
      { state: "running", origin: "resume" },
      { state: "running", origin: "resume" },
    ]);
    expect(first.notices[0]).toMatch(
      /^the frozen state of foreign cannot be restored on this host: its state was written by qemu 6\.0\.0 machine 2, and this host has \d/,
    );
    expect(first.notices[1]).toContain("booted instead, once, and frozen here for the next time");
    expect(first.steps.filter((step) => step.endsWith(" done"))).toEqual([
      "boot done",
      "freeze done",
      "store done",
    ]);
    const [machine] = first.machines;
    expect((await shell(node.client, machine?.name ?? "", "hostname")).stdout).toBe(`${machine?.name}\n`);
    const [standIn, ...more] = await standInsFor(foreign);
    expect(more).toEqual([]);
    expect(standIn).toMatchObject({ digest: machine?.snapshotDigest, tags: [], parent: "" });
    expect(await config(standIn?.digest)).toMatchObject({
      layer: 0,
      recipe: { from: foreign, why: expect.stringContaining("6.0.0") },
      vmm: { version: (await config("base")).vmm.version },
    });
    // The second time nothing is booted and nothing needs to be said.
    const second = await run({ snapshot: "foreign" });
    expect(second).toMatchObject({ notices: [], steps: [], machines: [{ state: "running" }] });
    expect(second.machines[0]?.snapshotDigest).toBe(standIn?.digest);
    // Another process finds it as well.
    await node.kill();
    await node.reconnect();
    expect((await run({ snapshot: "foreign" })).steps).toEqual([]);
  });

  it("is booted once for all who run it at the same time", async () => {
    const foreign = await storeForeign(node.home, "base", "shared", { vmm: { tscKhz: 1_000_000 } });
    const all = await Promise.all([run({ snapshot: "shared" }), run({ snapshot: "shared", count: 2 })]);
    expect(all.map(({ machines }) => machines.length)).toEqual([1, 2]);
    for (const { notices, steps } of all) {
      expect(notices[0]).toContain("its guest's clock counts at 1000.000 MHz");
      expect(steps).toContain("store done");
    }
    expect(await standInsFor(foreign)).toHaveLength(1);
  });

  it("goes on for the others when one of them goes away", async () => {
    const foreign = await storeForeign(node.home, "base", "left", otherVersion);
    const leaving = new AbortController();
    const staying = run({ snapshot: "left" });
    const left = run({ snapshot: "left" }, { signal: leaving.signal, onStep: () => leaving.abort() });
    await expect(left).rejects.toMatchObject({ code: "cancelled" });
    expect((await staying).machines).toHaveLength(1);
    expect(await standInsFor(foreign)).toHaveLength(1);
  });

  it("leaves nothing when it is called off, or not done in time", async () => {
    const foreign = await storeForeign(node.home, "base", "off", otherVersion);
    for (const at of ["boot started", "boot done", "freeze progress"]) {
      const abort = new AbortController();
      const onStep = (step: string) => step === at && abort.abort();
      await expect(run({ snapshot: "off" }, { signal: abort.signal, onStep })).rejects.toMatchObject({
        code: "cancelled",
      });
      await node.client.settle({});
      expect([...(await traces(node.home)), ...(await processes())], `called off at ${at}`).toEqual([]);
    }
    // Its guest is stopped: however quickly it would boot, the time is over before.
    const late = run({ snapshot: "off", timeoutMs: 5_000 });
    const stopped = stopWhenThere(late);
    await expect(late).rejects.toMatchObject({
      code: "deadline_exceeded",
      reason: expect.stringContaining("cannot be restored on this host: its state was written by qemu 6.0.0"),
      hint: expect.stringContaining("--timeout"),
    });
    expect(await stopped).toBe(true);
    expect([...(await traces(node.home)), ...(await processes())]).toEqual([]);
    expect(await standInsFor(foreign)).toEqual([]);
  });

  it("leaves nothing when spored is killed meanwhile, and is booted by the next one", async () => {
    const foreign = await storeForeign(node.home, "base", "killed", otherVersion);
    for (const at of ["boot started", "boot done", "freeze progress", "store started"]) {
      let killed: Promise<void> | undefined;
      const onStep = (step: string) => {
        if (step === at) killed = node.kill();
      };
      await expect(run({ snapshot: "killed" }, { onStep })).rejects.toThrow(/spored/);
      expect(killed, `no step was ${at}`).toBeDefined();
      await killed;
      await node.reconnect();
      expect([...(await traces(node.home)), ...(await processes())]).toEqual([]);
      expect(await standInsFor(foreign)).toEqual([]);
    }
    expect((await run({ snapshot: "killed" })).machines).toHaveLength(1);
  });

  it("is refused with every reason when it has no kernel to boot either", async () => {
    await storeForeign(node.home, "base", "bare", {
      vmm: { version: "6.0.0", tscKhz: 1_000_000 },
      without: ["kernel", "initramfs"],
    });
    await expect(run({ snapshot: "bare" })).rejects.toMatchObject({
      code: "incompatible",
      subject: "bare",
      reason: expect.stringMatching(
        /^its state was written by qemu 6\.0\.0, .*; its guest's clock counts .*\. Nor can it be booted cold instead: it has no kernel/,
      ),
    });
  });

  it("can be booted as a machine of its own, with the accelerator that there is", async () => {
    const onKvm = {
      vmm: { accelerator: "kvm", cpuVendor: "GenuineIntel" },
      shape: { accelerator: "kvm" },
    } as const;
    const { accelerator } = JSON.parse(
      (await node.client.inspectSnapshot({ snapshot: "base" })).configJson,
    ).vmm;
    if (accelerator === "kvm") return expect((await run({ snapshot: "base" })).steps).toEqual([]);
    await storeForeign(node.home, "base", "kvm", onKvm);
    const machines: api.Machine[] = [];
    const notices: string[] = [];
    for await (const { event } of node.client.boot({ snapshot: "kvm", name: "cold" })) {
      if (event.case === "ready") machines.push(event.value);
      if (event.case === "notice") notices.push(event.value);
    }
    expect(machines).toMatchObject([{ state: "running", origin: "boot", accelerator: "tcg" }]);
    expect(notices).toEqual(["this host has no kvm: it is booted with tcg"]);
    // What is frozen of it can be resumed here.
    await node.client.createSnapshot({ machine: "cold", tag: "warm" });
    expect((await run({ snapshot: "warm" })).machines).toMatchObject([
      { state: "running", accelerator: "tcg" },
    ]);
  });

  it("is resumed without its kernel where its state does fit", async () => {
    await storeForeign(node.home, "base", "stateonly", { without: ["kernel", "initramfs"] });
    expect((await run({ snapshot: "stateonly" })).machines).toMatchObject([{ state: "running" }]);
  });

  it("is not replaced by a snapshot from elsewhere that claims to stand in for it", async () => {
    const foreign = await storeForeign(node.home, "base", "mine", otherVersion);
    const claims = { recipe: { from: foreign, why: "trust me" } };
    const impostor = await storeForeign(node.home, "base", "impostor", claims);
    const { machines, steps } = await run({ snapshot: "mine" });
    expect(steps).toContain("store done");
    expect(machines[0]?.snapshotDigest).not.toBe(impostor);
  });

  it("keeps its stand-in as long as it has a name", async () => {
    const foreign = await storeForeign(node.home, "base", "named", otherVersion);
    await run({ snapshot: "named" });
    await removeAll();
    const [standIn] = await standInsFor(foreign);
    const kept = async () => {
      const { entries } = await node.client.listCache({});
      return entries.find(({ id }) => id === standIn?.digest)?.keptBy;
    };
    expect(await kept()).toEqual(["stands in for named:latest"]);
    await node.client.collectCache({});
    expect(await kept()).toEqual(["stands in for named:latest"]);
    await node.client.removeSnapshot({ snapshot: "named" });
    expect(await kept()).toEqual([]);
    await node.client.collectCache({});
    expect(await standInsFor(foreign)).toEqual([]);
  });

  it("is booted anew when its stand-in was damaged", async () => {
    const foreign = await storeForeign(node.home, "base", "damaged", otherVersion);
    await run({ snapshot: "damaged" });
    const [damaged] = await standInsFor(foreign);
    await removeAll();
    const store = await openStore({ root: path.join(node.home, "store") });
    const { files } = await store.resolve(damaged?.digest ?? "");
    await chmod(files.vmstate, 0o600);
    await truncate(files.vmstate, 10);
    expect((await run({ snapshot: "damaged" })).steps).toContain("store done");
    expect(await standInsFor(foreign)).toHaveLength(2);
  });
});
