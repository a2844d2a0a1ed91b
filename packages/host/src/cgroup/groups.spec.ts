import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../testing/index.ts";
import { limitSettings, wasKilled, weightSetting } from "./files.ts";
import { machineGroups, mountedHierarchies } from "./groups.ts";
import { groupLayout } from "./layout.ts";

const hybrid = `tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/blkio cgroup rw,relatime,blkio 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
`;
const unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n";

describe("the layout of control groups", () => {
  it("is one hierarchy for everything with version 2", () => {
    expect(groupLayout(unified, () => "cpuset cpu io memory hugetlb pids\n")).toEqual([
      { version: 2, path: "/sys/fs/cgroup", controls: ["cpus", "io", "memory"] },
    ]);
  });

  it("is one for each controller with version 1, whose blkio does not count", () => {
    expect(groupLayout(hybrid, () => "hugetlb\n")).toEqual([
      { version: 1, path: "/sys/fs/cgroup/cpu,cpuacct", controls: ["cpus"] },
      { version: 1, path: "/sys/fs/cgroup/memory", controls: ["memory"] },
    ]);
  });

  it("takes from version 2 what version 1 has left to it", () => {
    const split = hybrid.replace(/^.*blkio.*\n/m, "");
    expect(groupLayout(split, () => "io hugetlb\n").at(-1)).toEqual({
      version: 2,
      path: "/sys/fs/cgroup/unified",
      controls: ["io"],
    });
  });

  it("is empty where none is mounted", () => {
    expect(groupLayout("proc /proc proc rw 0 0\n", () => "")).toEqual([]);
  });
});

describe("settings of a group", () => {
  const limits = { cpus: 1.5, memoryBytes: 268_435_456, ioBytesPerSecond: 10_000_000 };
  const written = (version: 1 | 2) =>
    limitSettings(version, limits, "8:16").map(({ file, value }) => `${file} = ${value}`);

  it("are those of version 2", () => {
    expect(written(2)).toEqual([
      "cpu.max = 150000 100000",
      "memory.max = 268435456",
      "memory.swap.max = 0",
      "io.max = 8:16 rbps=10000000 wbps=10000000",
    ]);
  });

  it("are those of version 1, memory before memory with swap", () => {
    expect(written(1)).toEqual([
      "cpu.cfs_period_us = 100000",
      "cpu.cfs_quota_us = 150000",
      "memory.limit_in_bytes = 268435456",
      "memory.memsw.limit_in_bytes = 268435456",
    ]);
  });

  it("are none without limits", () => {
    expect(limitSettings(2, {}, "8:16")).toEqual([]);
  });

  it("stay within what the kernel takes", () => {
    expect(limitSettings(1, { cpus: 0.001 }, "8:16")[1]?.value).toBe("1000");
    expect(weightSetting(2, 512).value).toBe("10000");
    expect(weightSetting(1, 512).value).toBe("262144");
  });

  it("tell a kill from none", () => {
    expect(wasKilled("low 0\nmax 7\noom 1\noom_kill 1\n")).toBe(true);
    expect(wasKilled("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")).toBe(false);
    expect(wasKilled("")).toBe(false);
  });
});

describe("groups without a hierarchy", () => {
  const groups = machineGroups({ owner: "0", hierarchies: [] });

  it("refuse limits and say why", () => {
    expect(() => groups.require({ memoryBytes: 1, cpus: 1 }, "run", "hello")).toThrow(
      /cannot run hello: this host cannot limit CPUs and memory: /,
    );
    groups.require({}, "run", "hello");
  });
});

describe("groups of version 2", () => {
  it("get the controllers that they need passed on from the root", async () => {
    // A directory for the kernel's: on this host version 1 may have the controllers.
    await using root = await temporaryDirectory();
    const controls = ["cpus", "memory", "io"] as const;
    const groups = machineGroups({ owner: "0a", hierarchies: [{ version: 2, path: root.path, controls }] });
    const read = (file: string) => readFile(join(root.path, file), "utf8");
    await groups.limit("m", 4711, { memoryBytes: 1 << 28 }, root.path);
    expect(await read("cgroup.subtree_control")).toBe("+memory");
    const limits = { cpus: 2, memoryBytes: 1 << 28, ioBytesPerSecond: 1 << 20 };
    await groups.limit("m", 4711, limits, root.path);
    expect(await read("cgroup.subtree_control")).toBe("+cpu +memory +io");
    expect(await read("sporelet/cgroup.subtree_control")).toBe("+cpu +memory +io");
    expect(await read("sporelet/cpu.weight")).toBe(weightSetting(2, availableParallelism()).value);
    expect(await read("sporelet/0a-m/cgroup.procs")).toBe("4711");
    expect(await read("sporelet/0a-m/cpu.max")).toBe("200000 100000");
    expect(await read("sporelet/0a-m/memory.max")).toBe("268435456");
    expect(await read("sporelet/0a-m/io.max")).toMatch(/^\d+:\d+ rbps=1048576 wbps=1048576$/);
  });

  it("say what the kernel refused", async (ctx) => {
    const path = "/sys/fs/cgroup/unified";
    const controllers = await readFile(join(path, "cgroup.controllers"), "utf8").catch(() => undefined);
    const refuses = process.getuid?.() === 0 && controllers !== undefined && !/memory/.test(controllers);
    ctx.skip(!refuses, "no unified hierarchy without controllers, as in a hybrid, is mounted");
    const groups = machineGroups({ owner: "0a", hierarchies: [{ version: 2, path, controls: ["memory"] }] });
    const limited = groups.limit("m", process.pid, { memoryBytes: 1 << 28 }, "/tmp");
    await expect(limited).rejects.toMatchObject({ operation: "limit", subject: "m" });
    await groups.sweep(new Set());
    expect(await readdir(path)).not.toContain("sporelet");
  });
});

const hierarchies = mountedHierarchies();
const usable = hierarchies.some(({ controls }) => controls.includes("memory"));

describe("groups of this host", () => {
  const owner = randomBytes(4).toString("hex");
  const groups = machineGroups({ owner });
  const started: { kill(): Promise<unknown> }[] = [];

  const program = (words: string[]) => {
    const child = spawn(words[0] ?? "", words.slice(1), { stdio: ["pipe", "ignore", "inherit"] });
    const ended = once(child, "exit");
    const kill = async () => {
      child.kill("SIGKILL");
      await ended;
    };
    const handle = { child, pid: child.pid ?? 0, ended, kill };
    started.push(handle);
    return handle;
  };
  const groupsOf = async (pid: number) => {
    const lines = (await readFile(`/proc/${pid}/cgroup`, "utf8")).split("\n");
    return lines.filter((line) => line.includes(owner)).map((line) => line.split(":")[1]);
  };
  const left = async () => {
    const names = await Promise.all(
      hierarchies.map(({ path }) => readdir(join(path, "sporelet")).catch(() => [])),
    );
    return names.flat().filter((name) => name.startsWith(owner));
  };
  const needHost = (ctx: { skip(reason: string): void }) =>
    usable || ctx.skip("no control groups that root may write to are mounted");

  afterEach(async () => {
    for (const each of started.splice(0)) await each.kill();
    await groups.sweep(new Set());
    expect(await left()).toEqual([]);
  });

  it("have a process for its limits, and are gone with it", async (ctx) => {
    needHost(ctx);
    const { pid, kill } = program(["sleep", "60"]);
    await using directory = await temporaryDirectory();
    await groups.limit("a", pid, {}, directory.path);
    expect(await groupsOf(pid)).toEqual([]);
    await groups.limit("a", pid, { cpus: 0.5, memoryBytes: 64 << 20 }, directory.path);
    expect(await groupsOf(pid)).not.toEqual([]);
    await kill();
    expect(await groups.remove("a")).toEqual({ outOfMemory: false });
    expect(await left()).toEqual([]);
  });

  it("end a process that takes more memory than its limit, and say so", async (ctx) => {
    needHost(ctx);
    const take = "process.stdin.once('data', () => { globalThis.kept = Buffer.alloc(256 << 20, 1); })";
    const { child, pid, ended } = program([process.execPath, "-e", take]);
    await using directory = await temporaryDirectory();
    await groups.limit("b", pid, { memoryBytes: 96 << 20 }, directory.path);
    child.stdin?.write("now");
    expect((await ended)[1]).toBe("SIGKILL");
    expect(await groups.remove("b")).toEqual({ outOfMemory: true });
  });

  it("hold a process to its share of a CPU", async (ctx) => {
    needHost(ctx);
    const { pid } = program(["sh", "-c", "while :; do :; done"]);
    await using directory = await temporaryDirectory();
    await groups.limit("c", pid, { cpus: 0.1 }, directory.path);
    const [cpu] = hierarchies.filter(({ controls }) => controls.includes("cpus"));
    const throttled = async () =>
      Number(
        /^nr_throttled (\d+)$/m.exec(
          await readFile(join(cpu?.path ?? "", "sporelet", `${owner}-c`, "cpu.stat"), "utf8"),
        )?.[1],
      );
    await expect.poll(throttled, { timeout: 20_000 }).toBeGreaterThan(1);
  });

  it("limit a process whose group is there without it", async (ctx) => {
    needHost(ctx);
    const { pid } = program(["sleep", "60"]);
    await using directory = await temporaryDirectory();
    const limited = hierarchies.filter(({ controls }) => controls.includes("memory"));
    for (const { path } of limited) await mkdir(join(path, "sporelet", `${owner}-f`), { recursive: true });
    await groups.limit("f", pid, { memoryBytes: 64 << 20 }, directory.path);
    expect(await groupsOf(pid)).toHaveLength(limited.length);
  });

  it("keep what their parent was given while the last machines of others end", async (ctx) => {
    needHost(ctx);
    const [cpu] = hierarchies.filter(({ controls }) => controls.includes("cpus"));
    if (cpu === undefined) return;
    // A hierarchy of its own: in that of the host somebody's machine may keep the parent from being removed.
    const path = join(cpu.path, `test-${owner}`);
    await mkdir(path);
    if (cpu.version === 2) await writeFile(join(cpu.path, "cgroup.subtree_control"), "+cpu");
    const hierarchy = { version: cpu.version, path, controls: ["cpus"] } as const;
    const [ours, theirs] = ["0a", "0b"].map((name) =>
      machineGroups({ owner: name, hierarchies: [hierarchy] }),
    );
    const { file, value } = weightSetting(cpu.version, availableParallelism());
    const { pid } = program(["sleep", "60"]);
    let done = false;
    const ending = Array.from({ length: 4 }, async () => {
      while (!done) await theirs?.remove("none");
    });
    try {
      for (let round = 0; round < 100; round++) {
        await ours?.limit("m", pid, { cpus: 1 }, path);
        expect((await readFile(join(path, "sporelet", file), "utf8")).trim()).toBe(value);
        await writeFile(join(cpu.path, "cgroup.procs"), `${pid}`);
        await ours?.remove("m");
      }
    } finally {
      done = true;
      await Promise.all(ending);
      await ours?.sweep(new Set());
      await rmdir(path);
    }
  });

  it("sweep what is of no machine any more, and nothing else", async (ctx) => {
    needHost(ctx);
    const [one, other] = [program(["sleep", "60"]), program(["sleep", "60"])];
    await using directory = await temporaryDirectory();
    for (const [id, { pid }] of [
      ["d", one],
      ["e", other],
    ] as const) {
      await groups.limit(id, pid, { cpus: 1 }, directory.path);
    }
    await groups.sweep(new Set(["d"]));
    expect((await left()).length).toBe(2); // Both processes live: a group that is in use cannot go.
    await other.kill();
    await groups.sweep(new Set(["d"]));
    expect(await left()).toEqual([`${owner}-d`]);
  });
});
