import { execFileSync } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { node as api } from "@sporelet/api";
import { runtimeDirectoryOf } from "@sporelet/host";
import { freePorts } from "@sporelet/host/testing";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  buildBase,
  type RunRequest,
  run,
  shell,
  startTestNode,
  type TestNode,
  traces,
} from "./testing/node.ts";

const isRoot = process.getuid?.() === 0;
const guestPort = 9000;
/** Echoes what comes. */
const server = `nc -ll -p ${guestPort} -e cat >/dev/null 2>&1 </dev/null &
  until nc -w 1 127.0.0.1 ${guestPort} </dev/null; do sleep 0.1; done`;

it("suspends and wakes real guests by themselves", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)("a machine that falls asleep and is woken", () => {
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

  const started = async (request: RunRequest): Promise<{ machine: api.Machine; port: number }> => {
    // Taken again by the next spored.
    const ports = [{ host: await freePorts(), guest: guestPort }];
    const [machine] = await run(node.client, { name: "sleeper", ports, ...request });
    const port = machine?.ports[0]?.host;
    if (machine === undefined || port === undefined) throw new Error("no machine with a port");
    expect(await shell(node.client, machine.id, server)).toMatchObject({ code: 0 });
    await ask(port, "first");
    return { machine, port };
  };
  const machine = () => node.client.inspectMachine({ machine: "sleeper" });
  /** For longer than it takes to call an idle machine idle. */
  const keepBusy = async () => {
    const work = "while :; do :; done >/dev/null 2>&1 </dev/null & echo $! >/tmp/busy";
    await shell(node.client, "sleeper", work);
    await sleep(3500);
  };
  const suspend = () => node.client.suspend({ machine: "sleeper" });
  const until = async (state: string) => {
    while ((await machine()).state !== state) await sleep(20);
  };
  const ask = async (port: number, text: string): Promise<string> => {
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    socket.end(text);
    return String(await buffer(socket));
  };
  const failureOf = (port: number) =>
    ask(port, "hello").then(
      () => undefined,
      (error) => error.code,
    );

  it("holds the first connection and answers it when it is awake", async () => {
    const { port } = await started({ wakeOnConnect: true });
    await suspend();
    expect(await ask(port, "are you there?")).toBe("are you there?");
    expect(await machine()).toMatchObject({ state: "running", wakeOnConnect: true });
  });

  it("does not lose a connection that comes while it is being suspended", async () => {
    const { port } = await started({ wakeOnConnect: true });
    for (let round = 0; round < 3; round++) {
      const suspending = suspend();
      await sleep(30 * round);
      // Passed on while it still ran, it may be cut; one that comes later is held.
      const early = ask(port, "early").catch(() => "cut");
      await suspending;
      expect(await ask(port, "late")).toBe("late");
      expect(["early", "cut"]).toContain(await early);
      await until("running");
    }
  });

  it("answers nobody before its record says that it runs", async () => {
    const { machine: before, port } = await started({ wakeOnConnect: true });
    await suspend();
    // Writing the record waits until somebody reads it.
    const fifo = path.join(before.directory, "machine.json.new");
    execFileSync("mkfifo", [fifo]);
    let answered = false;
    const answer = ask(port, "hello").then((text) => {
      answered = true;
      return text;
    });
    await until("running");
    // Were it passed on by now, the guest would have answered long before that.
    await sleep(2000);
    expect(answered).toBe(false);
    await readFile(fifo, "utf8");
    expect(await answer).toBe("hello");
    expect((await machine()).state).toBe("running");
  });

  it("does not mind a client that has gone", async () => {
    const { port } = await started({ wakeOnConnect: true });
    await suspend();
    const gone = connect(port, "127.0.0.1");
    gone.on("connect", () => gone.resetAndDestroy());
    await until("running");
    expect(await ask(port, "next")).toBe("next");
  });

  it("closes connections when it cannot be woken, says why, and tries again with the next", async () => {
    const { machine: before, port } = await started({ wakeOnConnect: true, env: { TOKEN: "1" } });
    await suspend();
    await rm(path.join(runtimeDirectoryOf(node.home), `${before.id}.env`));
    expect(await failureOf(port)).toBe("ECONNRESET");
    expect(await machine()).toMatchObject({
      state: "suspended",
      failure: expect.stringContaining("it did not wake: its environment is lost"),
    });
    expect(await failureOf(port)).toBe("ECONNRESET");
    await node.client.wake({ machine: "sleeper", env: { TOKEN: "2" } });
    expect(await ask(port, "now")).toBe("now");
  });

  it("listens again when spored was ended, and wakes the one that is asked", async () => {
    const { port } = await started({ wakeOnConnect: true });
    await suspend();
    await node.kill();
    expect(await failureOf(port)).toBe("ECONNREFUSED");
    await node.reconnect();
    expect((await machine()).state).toBe("suspended");
    expect(await ask(port, "again")).toBe("again");
  });

  it("is suspended when nothing happens, and not while a connection is open", async () => {
    const { port } = await started({ wakeOnConnect: true, idleSuspendMs: 1000 });
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    socket.write("x");
    await new Promise((resolve) => socket.once("data", resolve));
    await sleep(2500);
    expect((await machine()).state).toBe("running");
    socket.end();
    await buffer(socket);
    await until("suspended");
    // The connection that wakes it keeps it awake as well.
    const waking = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    waking.write("y");
    await new Promise((resolve) => waking.once("data", resolve));
    await sleep(2500);
    expect((await machine()).state).toBe("running");
    waking.destroy();
    await until("suspended");
  });

  it("is not suspended while a command runs in it, nor while it works for itself", async () => {
    await started({ idleSuspendMs: 1000 });
    expect((await shell(node.client, "sleeper", "sleep 3; echo done")).stdout).toBe("done\n");
    await keepBusy();
    expect((await machine()).state).toBe("running");
    await shell(node.client, "sleeper", "kill $(cat /tmp/busy)");
    await until("suspended");
  });

  it("is not suspended while it works, however little its limit leaves it", async () => {
    await started({ idleSuspendMs: 1000, limits: { cpus: 0.3, memoryBytes: 0n, ioBytesPerSecond: 0n } });
    await keepBusy();
    expect((await machine()).state).toBe("running");
  });

  it("counts anew when spored was ended", async () => {
    await started({ idleSuspendMs: 1000 });
    await node.kill();
    await node.reconnect();
    await until("suspended");
  });

  it("has to have a port, and some time", async () => {
    const refused = { code: "invalid_argument" };
    await expect(run(node.client, { wakeOnConnect: true })).rejects.toMatchObject(refused);
    await expect(run(node.client, { idleSuspendMs: 10 })).rejects.toMatchObject(refused);
  });
});
