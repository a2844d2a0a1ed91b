import { access, readFile } from "node:fs/promises";
import path from "node:path";
import { connectNode, locateNode, startNode } from "@sporelet/api";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { namespaces } from "./testing/node.ts";

describe("the life of spored", () => {
  it("is one for a home, however many are started at once, and ends when it is idle", async () => {
    await using directory = await temporaryDirectory();
    const home = path.join(directory.path, "home");
    const options = { idleExitSeconds: 0.5 };
    const started = await Promise.all([1, 2, 3].map(() => startNode(home, options)));
    expect(new Set(started.map(({ pid }) => pid)).size).toBe(1);
    expect(locateNode(home)?.pid).toBe(started[0]?.pid);
    await ended(home, started[0]?.pid ?? 0);
    expect(locateNode(home)).toBeUndefined();
    await expect(access(started[0]?.socket ?? "")).rejects.toMatchObject({ code: "ENOENT" });
    const mounts = await readFile("/proc/self/mounts", "utf8");
    expect(mounts).not.toContain(home);
    expect(await namespaces(home)).toEqual([]);
  });

  it("starts anew for a client that finds it ending", async () => {
    await using directory = await temporaryDirectory();
    const home = path.join(directory.path, "home");
    const pids = new Set<number>();
    for (let round = 0; round < 3; round++) {
      using client = await connectNode(home, { idleExitSeconds: 0 });
      pids.add((await client.version({})).pid);
      await client.shutdownNode({});
    }
    expect(pids.size).toBe(3);
    for (const pid of pids) await ended(home, pid);
  });

  it("ends for a promise that nobody handles, says so in its log, and another one takes its place", async () => {
    await using directory = await temporaryDirectory();
    const home = path.join(directory.path, "home");
    const { pid } = await startDefective(home);
    process.kill(pid, "SIGUSR2");
    await ended(home, pid);
    const log = await readFile(path.join(home, "spored.log"), "utf8");
    const lines = log.split("\n").filter((line) => line.startsWith("{"));
    const defect = lines.map((line) => JSON.parse(line)).find(({ event }) => event === "defect");
    expect(defect).toMatchObject({ level: "error", origin: "unhandledRejection" });
    expect(defect.error).toMatch(/^Error: nobody cares\n +at /);
    expect(lines.at(-1)).toMatch(/"ending","why":"a defect"/);
    expect(await namespaces(home)).toEqual([]);
    using client = await connectNode(home, { idleExitSeconds: 0.5 });
    const next = await client.version({});
    expect(next.pid).not.toBe(pid);
    await client.shutdownNode({});
    await ended(home, next.pid);
  });

  it("tells why it cannot start", async () => {
    await using directory = await temporaryDirectory();
    await expect(startNode("/dev/null/home")).rejects.toMatchObject({ operation: "start spored" });
    await expect(startNode(directory.path, { command: ["/bin/false"] })).rejects.toMatchObject({
      code: "unavailable",
    });
  });

  it("is not started for a client that does not want it", async () => {
    await using directory = await temporaryDirectory();
    await expect(connectNode(directory.path, { start: false })).rejects.toMatchObject({
      code: "unavailable",
    });
  });
});

/** A spored that fails to handle a promise when it is sent SIGUSR2. */
async function startDefective(home: string) {
  const fail = 'process.on("SIGUSR2", () => void Promise.reject(new Error("nobody cares")))';
  const before = process.env.NODE_OPTIONS;
  process.env.NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(fail)}`;
  try {
    return await startNode(home, { idleExitSeconds: 0 });
  } finally {
    if (before === undefined) delete process.env.NODE_OPTIONS;
    else process.env.NODE_OPTIONS = before;
  }
}

/** The lock is let go last of all. */
async function ended(home: string, pid: number): Promise<void> {
  const { tryLock } = await import("./lock.ts");
  const deadline = performance.now() + 60_000;
  while (performance.now() < deadline) {
    const lock = await tryLock(path.join(home, "spored.lock"));
    await lock?.[Symbol.asyncDispose]();
    if (lock !== undefined) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`spored ${pid} does not end`);
}
