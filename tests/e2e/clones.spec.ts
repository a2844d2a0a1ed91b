import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildHello, type Clone, clones, hostPort, tag, visit } from "./support/hello.ts";
import { traces } from "./support/leftovers.ts";
import { ok, sharedHome, sporectl, sporectlJson } from "./support/sporectl.ts";

describe("clones of a Compose project", () => {
  let before: string[];

  beforeAll(async () => {
    await buildHello();
    before = await traces(sharedHome);
  });

  afterAll(async () => {
    expect(await traces(sharedHome)).toEqual(before);
  });

  it("answer over their ports, count for themselves, and are different machines", async () => {
    await using three = await clones(["-n", "3", "-p", "8080"]);
    expect(three.list).toHaveLength(3);
    const start = await Promise.all(three.list.map(async (clone) => (await visit(hostPort(clone))).visits));
    expect(new Set(start).size).toBe(1);
    for (const [i, clone] of three.list.entries()) {
      for (let visits = 0; visits <= i; visits++) await visit(hostPort(clone));
    }
    const end = await Promise.all(three.list.map(async (clone) => (await visit(hostPort(clone))).visits));
    expect(end.map((visits, i) => visits - (start[i] ?? 0))).toEqual([2, 3, 4]);

    for (const path of ["/etc/machine-id", "/run/sporelet/generation-id"]) {
      const values = await Promise.all(three.list.map((clone) => ok(["exec", clone.name, "cat", path])));
      expect(new Set(values).size, path).toBe(3);
    }
    const hostnames = await Promise.all(three.list.map((clone) => ok(["exec", clone.name, "hostname"])));
    expect(hostnames.map((name) => name.trim())).toEqual(three.list.map((clone) => clone.name));
    const macs = await Promise.all(
      three.list.map((clone) => ok(["exec", clone.name, "cat", "/sys/class/net/eth0/address"])),
    );
    expect(new Set(macs).size).toBe(3);
  });

  it("map one memory file and leave it as it was frozen", async () => {
    const snapshot = await sporectlJson<{ directory: string; digest: string }>(["snapshot", "inspect", tag]);
    await using two = await clones(["-n", "2"]);
    for (const clone of two.list) {
      const maps = await readFile(`/proc/${clone.pid}/maps`, "utf8");
      const line = maps.split("\n").find((entry) => entry.endsWith(`${snapshot.directory}/memory`));
      expect(line, "memory is mapped private").toMatch(/ rw-p /);
      await ok([
        "exec",
        clone.name,
        "sh",
        "-c",
        "dd if=/dev/urandom of=/dev/shm/x bs=1M count=8 2>/dev/null",
      ]);
    }
    await ok(["snapshot", "verify", tag]);
  });

  it("run a command with its exit code and are gone afterwards with --rm", async () => {
    const result = await sporectl([
      "run",
      tag,
      "--rm",
      "-e",
      "GREETING=hi there",
      "--",
      "sh",
      "-c",
      'echo "$GREETING"; exit 41',
    ]);
    expect(result).toMatchObject({ code: 41, stdout: "hi there\n" });
    const machines = await sporectlJson<unknown[]>(["ps", "-a"]);
    expect(machines).toEqual([]);
  });

  it("start with the host's clock", async () => {
    await using one = await clones();
    const guest = Number(await ok(["exec", one.first.name, "date", "+%s%3N"]));
    // Wide enough for a busy host, and far from the days that a frozen clock would be off.
    expect(Math.abs(Date.now() - guest)).toBeLessThan(5_000);
  });

  it("are frozen again with what they did, and their parent goes on", async () => {
    await using parent = await clones(["-p", "8080"]);
    const { visits } = await visit(hostPort(parent.first));
    await ok([
      "exec",
      parent.first.name,
      "sh",
      "-c",
      "echo remembered >/root/note; echo kept >/dev/shm/note; sync",
    ]);
    const created = await sporectlJson<{ pauseMs: number; parent: string }>([
      "snapshot",
      "create",
      parent.first.name,
      "-t",
      "second:gen",
      "--force",
    ]);
    try {
      expect(created.pauseMs).toBeGreaterThan(0);
      const inspected = await sporectlJson<{ digest: string }>(["snapshot", "inspect", tag]);
      expect(created.parent).toBe(inspected.digest);
      expect((await visit(hostPort(parent.first))).visits).toBe(visits + 1);

      await using children = await clones(["-n", "2", "-p", "8080"], "second:gen");
      for (const child of children.list) {
        expect(await ok(["exec", child.name, "cat", "/root/note", "/dev/shm/note"])).toBe(
          "remembered\nkept\n",
        );
        expect((await visit(hostPort(child))).visits).toBe(visits + 1);
      }
      await ok(["exec", children.first.name, "sh", "-c", "echo changed >/root/note"]);
      expect(await ok(["exec", parent.first.name, "cat", "/root/note"])).toBe("remembered\n");

      const third = await sporectlJson<{ pauseMs: number }>([
        "snapshot",
        "create",
        children.first.name,
        "-t",
        "third:gen",
        "--force",
      ]);
      expect(third.pauseMs).toBeGreaterThan(0);
      await using grandchild = await clones(["-p", "8080"], "third:gen");
      expect(await ok(["exec", grandchild.first.name, "cat", "/root/note"])).toBe("changed\n");
      expect((await visit(hostPort(grandchild.first))).visits).toBe(visits + 2);
    } finally {
      await sporectl(["snapshot", "rm", "third:gen"]);
      await sporectl(["snapshot", "rm", "second:gen"]);
    }
  });

  it("are paused, unpaused, stopped and listed", async () => {
    await using one = await clones(["--name", "led", "-p", "8080"]);
    const state = async (): Promise<string | undefined> =>
      (await sporectlJson<{ name: string; state: string }[]>(["ps", "-a"])).find(
        (machine) => machine.name === "led",
      )?.state;
    expect(await state()).toBe("running");
    await ok(["pause", "led"]);
    expect(await state()).toBe("paused");
    await ok(["unpause", "led"]);
    expect((await visit(hostPort(one.first))).visits).toBeGreaterThan(0);
    const [stats] = await sporectlJson<{ pssBytes: number; guestMemoryTotalBytes: number }[]>([
      "stats",
      "--no-stream",
      "led",
    ]);
    expect(stats?.pssBytes).toBeGreaterThan(0);
    expect(stats?.guestMemoryTotalBytes).toBeGreaterThan(0);
    await ok(["stop", "led"]);
    expect(await state()).toBe("stopped");
    expect(await ok(["logs", "led", "console"])).not.toBe("");
  });

  it("show the log of a Compose service, of the agent and of the console", async () => {
    await using one = await clones(["-p", "8080"]);
    await visit(hostPort(one.first));
    expect(await ok(["logs", one.first.name, "redis"])).toMatch(/Ready to accept connections/i);
    expect(await ok(["logs", one.first.name, "agent"])).not.toBe("");
    const unknown = await sporectl(["logs", one.first.name, "rediss"]);
    expect(unknown.code).toBe(3);
    expect(unknown.stderr).toContain("redis");
  });
});

describe("the same machine started cold", () => {
  it("brings the project up by itself", async () => {
    await ok(["boot", tag, "--name", "cold", "-p", "0:8080"]);
    try {
      const [machine] = (await sporectlJson<Clone[]>(["ps"])).filter((clone) => clone.name === "cold");
      const deadline = Date.now() + 240_000;
      let visits = 0;
      while (visits === 0 && Date.now() < deadline)
        visits = (await visit(hostPort(machine)).catch(() => ({ visits: 0 }))).visits;
      expect(visits).toBeGreaterThan(0);
    } finally {
      await sporectl(["rm", "-f", "cold"]);
    }
  });
});
