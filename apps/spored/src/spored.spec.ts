import { once } from "node:events";
import net from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { connectNode } from "@sporelet/api";
import { freePorts } from "@sporelet/host/testing";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildBase, clockErrorMs, run, shell, startTestNode, type TestNode, traces } from "./testing/node.ts";

const isRoot = process.getuid?.() === 0;

it("runs with real guests", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)("spored with real guests", () => {
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
    expect(await traces(node.home)).toEqual([]);
  });

  it("resumes clones that have nothing in common but their snapshot", async () => {
    const machines = await run(node.client, { count: 3 });
    expect(machines).toHaveLength(3);
    const outputs = await Promise.all(
      machines.map(({ id }) =>
        shell(node.client, id, "hostname; cat /etc/machine-id; cat /run/sporelet/generation-id"),
      ),
    );
    machines.forEach((machine, index) => {
      const [hostname, machineId, generation] = outputs[index]?.stdout.split("\n") ?? [];
      expect(hostname).toBe(machine.name);
      expect(machineId).toBe(machine.machineId);
      expect(generation).toBe(machine.generationId);
      const { timings } = machine;
      const sum =
        (timings?.planMs ?? 0) +
        (timings?.slotMs ?? 0) +
        (timings?.loadMs ?? 0) +
        (timings?.agentMs ?? 0) +
        (timings?.readyStageMs ?? 0);
      expect(sum).toBeCloseTo(timings?.readyMs ?? Number.NaN, 3);
    });
    for (const key of ["id", "name", "pid", "netns", "machineId", "generationId", "directory"] as const) {
      expect(new Set(machines.map((machine) => machine[key])).size, key).toBe(3);
    }
  });

  it("tells exit codes, both outputs and the environment apart", async () => {
    const [machine] = await run(node.client, { name: "talker", env: { COLOUR: "blue" } });
    const result = await shell(node.client, "talker", "echo out $COLOUR; echo err >&2; exit 7");
    expect(result).toEqual({ stdout: "out blue\n", stderr: "err\n", code: 7 });
    expect(
      JSON.stringify(await node.client.inspectMachine({ machine: machine?.id ?? "" }), big),
    ).not.toContain("blue");
  });

  it("publishes a port of each clone", async () => {
    const machines = await run(node.client, { count: 2, ports: [{ host: 0, guest: 7000 }] });
    for (const { id, name, ports } of machines) {
      await shell(node.client, id, "(while true; do hostname | nc -l -p 7000; done) >/dev/null 2>&1 &");
      await shell(node.client, id, "until netstat -ltn | grep -q :7000; do sleep 0.1; done");
      const socket = net.connect(ports[0]?.host ?? 0, "127.0.0.1");
      const [data] = await once(socket, "data");
      socket.destroy();
      expect(String(data).trim()).toBe(name);
    }
  });

  it("undoes a whole run when one clone fails", async () => {
    const host = await freePorts(2);
    const server = net.createServer().listen(host + 1, "127.0.0.1");
    await once(server, "listening");
    const ports = [{ host, guest: 80 }];
    await expect(run(node.client, { count: 2, ports })).rejects.toMatchObject({
      code: "already_exists",
    });
    server.close();
    await node.client.settle({});
    expect(await traces(node.home)).toEqual([]);
  });

  it("leaves nothing when a run is cancelled at any moment", async () => {
    // Milliseconds after its begin, or the how manieth clone is ready.
    for (const moment of [0, 5, 20, 40, 80, 120, "1st", "2nd", "3rd"]) {
      const controller = new AbortController();
      const going = (async () => {
        let ready = 0;
        for await (const _ of node.client.run({ snapshot: "base", count: 3 }, { signal: controller.signal }))
          if (typeof moment === "string" && ++ready === Number.parseInt(moment, 10)) controller.abort();
      })();
      if (typeof moment === "number") {
        await sleep(moment);
        controller.abort();
      }
      await going.catch((error) => expect(error).toMatchObject({ code: "cancelled" }));
      const { machines: started } = await node.client.settle({});
      const { machines } = await node.client.listMachines({});
      // A run that was over before is no longer cancelled, but its caller learns what it has started.
      expect(started.toSorted()).toEqual(machines.map(({ id }) => id).toSorted());
      for (const { id } of machines) await node.client.removeMachine({ machine: id, force: true });
      expect([0, 3]).toContain(machines.length);
      expect(await traces(node.home)).toEqual([]);
    }
  });

  it("tells each connection which machines it has started", async () => {
    const [one, two] = await run(node.client, { count: 2 });
    expect((await node.client.settle({})).machines.toSorted()).toEqual([one?.id, two?.id].toSorted());
    await node.client.removeMachine({ machine: one?.id ?? "", force: true });
    expect((await node.client.settle({})).machines).toEqual([two?.id]);
    using other = await connectNode(node.home, { start: false });
    expect((await other.settle({})).machines).toEqual([]);
  });

  it("suggests the nearest names", async () => {
    await run(node.client, { name: "brave-otter" });
    await expect(node.client.pause({ machine: "brave-oter" })).rejects.toMatchObject({
      code: "not_found",
      hint: expect.stringContaining("brave-otter"),
    });
    await expect(run(node.client, { name: "brave-otter" })).rejects.toMatchObject({ code: "already_exists" });
    await expect(run(node.client, { snapshot: "bas" })).rejects.toMatchObject({ code: "not_found" });
  });

  it("pauses a guest, and sets its clock when it goes on", async () => {
    const [machine] = await run(node.client);
    const name = machine?.name ?? "";
    expect((await node.client.pause({ machine: name })).state).toBe("paused");
    await expect(shell(node.client, name, "true")).rejects.toMatchObject({ code: "failed_precondition" });
    await sleep(3000);
    expect((await node.client.unpause({ machine: name })).state).toBe("running");
    const before = Date.now();
    const { stdout } = await shell(node.client, name, "date +%s");
    expect(clockErrorMs(Number(stdout), before, Date.now())).toBeLessThan(1000);
  });

  it("has connections to a paused guest wait, also those that are its first", async () => {
    const [machine] = await run(node.client, { ports: [{ host: 0, guest: 7 }] });
    const { id = "", ports = [] } = machine ?? {};
    const server = "nc -ll -p 7 -e cat >/dev/null 2>&1 </dev/null &";
    await shell(node.client, id, `${server} until netstat -tln | grep -q ':7 '; do sleep 0.1; done`);
    await node.client.pause({ machine: id });
    const socket = net.connect(ports[0]?.host ?? 0, "127.0.0.1");
    socket.end("hello");
    const said = text(socket);
    said.catch(() => {});
    // A kernel asks three times, one second apart, for the hardware address that it does not know yet.
    await sleep(4500);
    await node.client.unpause({ machine: id });
    expect(await said).toBe("hello");
  });

  it("snapshots a running machine, which goes on, and resumes clones of it", async () => {
    const [parent] = await run(node.client, { name: "parent", env: { TOKEN: "secret" } });
    await shell(node.client, "parent", "echo kept > /root/state; (sleep 1000; true) & echo $! > /root/pid");
    const snapshot = await node.client.createSnapshot({ machine: "parent", tag: "child:1" });
    expect(snapshot).toMatchObject({ layer: 2, parent: parent?.snapshotDigest, source: "parent" });
    expect(snapshot.pauseMs).toBeGreaterThan(0);
    expect((await shell(node.client, "parent", "kill -0 $(cat /root/pid) && echo $TOKEN")).stdout).toBe(
      "secret\n",
    );
    const [clone] = await run(node.client, { snapshot: "child:1", name: "clone" });
    expect((await shell(node.client, "clone", "echo [$TOKEN]")).stdout).toBe("[]\n");
    expect((await shell(node.client, "clone", "cat /root/state; hostname")).stdout).toBe("kept\nclone\n");
    expect(clone?.machineId).not.toBe(parent?.machineId);
    // The second generation, of the clone of the clone.
    await shell(node.client, "clone", "echo more >> /root/state");
    await node.client.createSnapshot({ machine: "clone", tag: "child:2" });
    await run(node.client, { snapshot: "child:2", name: "grandchild" });
    expect((await shell(node.client, "grandchild", "cat /root/state")).stdout).toBe("kept\nmore\n");
    await expect(node.client.createSnapshot({ machine: "clone", tag: "child:2" })).rejects.toMatchObject({
      code: "already_exists",
    });
    await expect(node.client.removeSnapshot({ snapshot: "child:2" })).rejects.toMatchObject({
      code: "failed_precondition",
    });
    expect((await node.client.verifySnapshot({ snapshot: "child:1" })).verified).toBe(true);
    for (const machine of ["clone", "grandchild"]) await node.client.removeMachine({ machine, force: true });
    for (const name of ["child:2", "child:1"]) await node.client.removeSnapshot({ snapshot: name });
  });

  it("boots the machine of a snapshot cold", async () => {
    const machines = [];
    for await (const { event } of node.client.boot({ snapshot: "base", name: "cold" })) {
      if (event.case === "ready") machines.push(event.value);
    }
    expect(machines).toMatchObject([{ name: "cold", origin: "boot", state: "running" }]);
    const before = Date.now();
    const { stdout } = await shell(node.client, "cold", "hostname; date +%s");
    const after = Date.now();
    const [hostname, date] = stdout.split("\n");
    expect(hostname).toBe("cold");
    expect(clockErrorMs(Number(date), before, after)).toBeLessThan(1000);
    const frozen = await node.client.createSnapshot({ machine: "cold", tag: "cold:1" });
    expect(frozen.layer).toBe(2);
    await run(node.client, { snapshot: "cold:1", name: "warm" });
    expect((await shell(node.client, "warm", "hostname")).stdout).toBe("warm\n");
    await node.client.removeMachine({ machine: "warm", force: true });
    await node.client.removeSnapshot({ snapshot: "cold:1" });
  });

  it("keeps the record of a machine that ended by itself, or removes it with --rm", async () => {
    await run(node.client, { name: "stays" });
    await run(node.client, { name: "goes", remove: true });
    await Promise.all([endGuest(node, "stays"), endGuest(node, "goes")]);
    const { machines } = await node.client.listMachines({});
    expect(machines).toMatchObject([{ name: "stays", state: "stopped", pid: 0 }]);
    expect(machines[0]?.failure).toContain("guest");
  });

  it("stops a machine in order, and reads its console afterwards", async () => {
    await run(node.client, { name: "orderly" });
    expect((await node.client.stop({ machine: "orderly", timeoutMs: 20_000 })).state).toBe("stopped");
    expect((await node.client.stop({ machine: "orderly" })).state).toBe("stopped");
    for await (const _ of node.client.logs({ machine: "orderly" }));
    await expect(shell(node.client, "orderly", "true")).rejects.toMatchObject({
      code: "failed_precondition",
    });
  });

  it("copies files in and out", async () => {
    await run(node.client, { name: "files" });
    await shell(
      node.client,
      "files",
      "mkdir -p /data && head -c 300000 /dev/urandom > /data/a && ln -s a /data/b",
    );
    const chunks: Uint8Array[] = [];
    for await (const { data } of node.client.readTar({ machine: "files", path: "/data" })) chunks.push(data);
    async function* requests() {
      yield { request: { case: "start" as const, value: { machine: "files", directory: "/copy" } } };
      for (const data of chunks) yield { request: { case: "data" as const, value: data } };
    }
    await shell(node.client, "files", "mkdir /copy");
    await node.client.writeTar(requests());
    expect(
      (await shell(node.client, "files", "cmp /data/a /copy/data/a && readlink /copy/data/b")).stdout,
    ).toBe("a\n");
    expect(await node.client.statFile({ machine: "files", path: "/copy/data" })).toMatchObject({
      exists: true,
      directory: true,
    });
    expect(await node.client.statFile({ machine: "files", path: "/none" })).toMatchObject({ exists: false });
  });

  it("measures machines, and checks the host", async () => {
    await run(node.client, { name: "measured" });
    for await (const { machines } of node.client.stats({ machines: ["measured"] })) {
      expect(machines).toHaveLength(1);
      expect(machines[0]?.pssBytes).toBeGreaterThan(0n);
      expect(machines[0]?.guestMemoryTotalBytes).toBeGreaterThan(0n);
    }
    const { checks } = await node.client.doctor({});
    expect(checks.map(({ id }) => id)).toContain("vmm.qemu");
  });

  it("is killed at any moment and takes its machines over again", async () => {
    await run(node.client, {
      name: "survivor",
      // Taken again by the next spored.
      ports: [{ host: await freePorts(), guest: 7000 }],
      env: { KEPT: "yes" },
    });
    await run(node.client, { name: "paused" });
    await node.client.pause({ machine: "paused" });
    await run(node.client, { name: "victim" });
    const victim = await node.client.inspectMachine({ machine: "victim" });
    const before = await node.client.inspectMachine({ machine: "survivor" });
    await shell(node.client, "survivor", "echo here > /root/state");
    for (const afterMs of [0, 10, 30, 60, 100, 150]) {
      // Half-made machines of every kind.
      const going = run(node.client, { count: 2 }).catch(() => {});
      await sleep(afterMs);
      await node.kill();
      await going;
      if (afterMs === 30) process.kill(victim.pid, "SIGKILL");
      const client = await node.reconnect();
      expect((await shell(client, "survivor", "cat /root/state; echo $KEPT; date +%s")).stdout).toMatch(
        /^here\nyes\n/,
      );
      const after = await client.inspectMachine({ machine: "survivor" });
      expect(after).toMatchObject({
        pid: before.pid,
        ports: [{ host: before.ports[0]?.host }],
        state: "running",
      });
      for (const machine of (await client.listMachines({})).machines) {
        if (["survivor", "paused", "victim"].includes(machine.name)) continue;
        // Ready before the kill, and so a machine like any other.
        expect(machine.state).toBe("running");
        expect((await shell(client, machine.id, "hostname")).stdout.trim()).toBe(machine.name);
        await client.removeMachine({ machine: machine.id, force: true });
      }
    }
    const { client } = node;
    expect((await client.inspectMachine({ machine: "victim" })).state).toBe("stopped");
    await client.unpause({ machine: "paused" });
    expect((await shell(client, "paused", "hostname")).stdout).toBe("paused\n");
    for (const machine of ["survivor", "paused", "victim"])
      await client.removeMachine({ machine, force: true });
    expect(await traces(node.home)).toEqual([]);
  });
});

async function endGuest(node: TestNode, machine: string): Promise<void> {
  await shell(node.client, machine, "poweroff -f").catch(() => {});
  // Following the console ends with the machine.
  for await (const _ of node.client.logs({ machine, follow: true }));
}

const big = (_: string, value: unknown) => (typeof value === "bigint" ? Number(value) : value);
