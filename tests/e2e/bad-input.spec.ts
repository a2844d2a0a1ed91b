import { spawnSync } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDockerRegistry } from "@sporelet/oci/testing";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { buildHello, clones, hostPort, project, tag, visit } from "./support/hello.ts";
import { traces } from "./support/leftovers.ts";
import { ok, type Result, sharedHome, sporectl, sporectlJson } from "./support/sporectl.ts";

interface SnapshotJson {
  digest: string;
  directory: string;
  tags: string[];
}

describe("bad input", () => {
  let directory: string;
  let before: string[];
  let snapshots: string[];

  beforeAll(async () => {
    await buildHello();
    before = await traces(sharedHome);
    snapshots = await listed();
  });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "spore-bad-"));
  });

  // After every one of them: nothing of ours is left, and what existed is intact.
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
    expect(await traces(sharedHome)).toEqual(before);
    expect(await listed()).toEqual(snapshots);
  });

  afterAll(async () => {
    await using one = await clones(["-p", "8080"]);
    expect((await visit(hostPort(one.first))).visits).toBeGreaterThan(0);
  });

  async function listed(): Promise<string[]> {
    const list = await sporectlJson<SnapshotJson[]>(["snapshot", "ls"]);
    return list.map(({ digest, tags }) => `${digest} ${tags.join(" ")}`).sort();
  }

  /** A copy of the example whose files are changed before it is built. */
  async function changed(changes: Record<string, (text: string) => string>): Promise<string> {
    await cp(project, directory, { recursive: true });
    for (const [file, change] of Object.entries(changes)) {
      const path = join(directory, file);
      const text = await readFile(path, "utf8");
      const result = change(text);
      if (result === text) throw new Error(`${file} has nothing to change: the test would test nothing`);
      await writeFile(path, result);
    }
    return directory;
  }

  const build = (path: string, options = {}): ReturnType<typeof sporectl> =>
    sporectl(["build", path, "-t", "bad:one"], options);

  it("a Compose file with a syntax error: its line and column", async () => {
    await writeFile(join(directory, "compose.yaml"), 'services:\n  api:\n    image: "unfinished\n');
    const { code, stderr } = await build(directory);
    expect(code).toBe(2);
    expect(stderr).toMatch(/compose\.yaml:\d+:\d+/);
  });

  it("a sporelet.yaml with an unknown key: where, and which one was meant", async () => {
    const path = await changed({ "sporelet.yaml": (text) => text.replace(/^machine:/m, "machin:") });
    const { code, stderr } = await build(path);
    expect(code).toBe(2);
    expect(stderr).toMatch(/sporelet\.yaml:\d+:\d+/);
    expect(stderr).toContain("machine");
  });

  it("a directory without a project, and one that does not exist", async () => {
    const empty = await build(directory);
    expect(empty.code).toBe(3);
    expect(empty.stderr).toContain("compose.yaml");
    expect((await build(join(directory, "nowhere"))).code).toBe(3);
  });

  it("an image that its registry does not know", async () => {
    await using registry = await startDockerRegistry();
    const image = `${registry.address}/no/such-image:1`;
    await writeFile(join(directory, "compose.yaml"), `services:\n  one:\n    image: ${image}\n`);
    await writeFile(join(directory, "sporelet.yaml"), `images:\n  - name: ${image}\n    tls: false\n`);
    const { code, stderr } = await build(directory);
    expect(code).toBe(3);
    expect(stderr).toContain("no/such-image:1");
  });

  it("a service that never becomes healthy: the log that explains it", async () => {
    const path = await changed({
      "compose.yaml": (text) =>
        text.replace(/^( +)test:.*$/m, '$1test: ["CMD", "sh", "-c", "echo its-heart-stopped; exit 1"]'),
      "sporelet.yaml": (text) => `${text}\ntimeouts: { healthy: 40s }\n`,
    });
    const { code, stderr } = await build(path);
    expect(code).toBe(8);
    expect(stderr).toMatch(/healthy/);
    expect(stderr).toContain("its-heart-stopped");
  });

  it("a warm-up that fails: its output", async () => {
    const path = await changed({
      "sporelet.yaml": (text) =>
        text.replace(/^warmup:\n/m, 'warmup:\n  - command: [sh, -c, "echo the-oven-is-cold >&2; exit 9"]\n'),
    });
    const { code, stderr } = await build(path);
    expect(code).toBe(8);
    expect(stderr).toContain("the-oven-is-cold");
    expect(stderr).toContain("9");
  });

  it("too little memory", async () => {
    const path = await changed({
      "sporelet.yaml": (text) => text.replace(/memory: \S+/, "memory: 64MiB,").replace(/,,/, ","),
    });
    const { code, stderr } = await build(path);
    expect([2, 6]).toContain(code);
    expect(stderr).toMatch(/memory/i);
  });

  it("too little disk in the machine", async () => {
    const path = await changed({ "sporelet.yaml": (text) => text.replace(/disk: [^\s,}]+/, "disk: 64MiB") });
    const { code, stderr } = await build(path);
    expect([2, 6]).toContain(code);
    expect(stderr).toMatch(/disk/i);
  });

  it("a snapshot that does not exist: the nearest names", async () => {
    const { code, stderr } = await sporectl(["run", "helo"]);
    expect(code).toBe(3);
    expect(stderr).toContain("hello");
  });

  it("a machine that does not exist", async () => {
    for (const args of [
      ["exec", "nobody", "true"],
      ["stop", "nobody"],
      ["logs", "nobody"],
      ["snapshot", "create", "nobody", "-t", "x"],
    ]) {
      const { code, stderr } = await sporectl(args);
      expect(code, args.join(" ")).toBe(3);
      expect(stderr).toContain("nobody");
    }
  });

  it("a port that is in use: by whom", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    try {
      const { port } = server.address() as { port: number };
      const { code, stderr } = await sporectl(["run", tag, "-p", `${port}:8080`]);
      expect(code).toBe(4);
      expect(stderr).toContain(`${port}`);
      expect(stderr).toContain(`${process.pid}`);
    } finally {
      server.close();
    }
  });

  it("names, ports and counts that make no sense", async () => {
    for (const args of [
      ["run", tag, "-p", "70000:8080"],
      ["run", tag, "-n", "0"],
      ["run", tag, "--name", "../escape"],
      ["build", project, "-t", "../escape"],
      ["build", project, "-t", "UPPER"],
      ["run", "../../etc/passwd"],
    ]) {
      const { code, stderr } = await sporectl(args);
      expect([2, 3], `${args.join(" ")}: ${stderr}`).toContain(code);
      expect(stderr).not.toBe("");
    }
  });

  it.each([["memory"], ["vmstate"], ["disk"]])(
    "a snapshot whose %s was truncated or altered",
    async (file) => {
      const snapshot = await sporectlJson<SnapshotJson>(["snapshot", "inspect", tag]);
      const path = join(snapshot.directory, file);
      const kept = `${path}.kept`;
      // A copy is altered in the original's place, so that the original comes back untouched.
      spawnSync("mv", [path, kept]);
      try {
        for (const damage of ["truncate", "alter"]) {
          spawnSync("cp", ["--reflink=auto", "--sparse=always", kept, path]);
          await chmod(path, 0o600);
          if (damage === "truncate") await truncate(path, 8192);
          else await writeFile(path, "altered", { flag: "r+" });
          const { code, stderr } = await sporectl(["run", tag]);
          expect(code, stderr).toBe(9);
          expect(stderr).toContain(file);
        }
      } finally {
        spawnSync("mv", ["-f", kept, path]);
      }
      await using one = await clones(["-p", "8080"]);
      expect((await visit(hostPort(one.first))).visits).toBeGreaterThan(0);
    },
  );

  it("an after-resume hook that fails or overruns its limit: its output, and no clone", async () => {
    await using one = await clones();
    const hook = "/etc/sporelet/hooks/after-resume.d/50-test";
    for (const [script, sign] of [
      ["echo no-licence-found; exit 4", "no-licence-found"],
      ["echo waiting-for-godot; sleep 100", "waiting-for-godot"],
    ]) {
      await ok([
        "exec",
        one.first.name,
        "sh",
        "-c",
        `mkdir -p "$(dirname ${hook})"; printf '#!/bin/sh\\n${script}\\n' >${hook}; chmod 755 ${hook}`,
      ]);
      await ok(["snapshot", "create", one.first.name, "-t", "bad:hook", "--force"]);
      try {
        const { code, stderr } = await sporectl(["run", "bad:hook"]);
        expect(code).toBe(8);
        expect(stderr).toContain(sign);
        expect(stderr).toContain("50-test");
      } finally {
        await sporectl(["snapshot", "rm", "bad:hook"]);
      }
    }
  });

  it("a before-freeze hook that fails: no snapshot, and the machine goes on", async () => {
    await using one = await clones(["-p", "8080"]);
    const hook = "/etc/sporelet/hooks/before-freeze.d/50-test";
    await ok([
      "exec",
      one.first.name,
      "sh",
      "-c",
      `mkdir -p "$(dirname ${hook})"; printf '#!/bin/sh\\necho not-yet; exit 4\\n' >${hook}; chmod 755 ${hook}`,
    ]);
    const { code, stderr } = await sporectl(["snapshot", "create", one.first.name, "-t", "bad:freeze"]);
    expect(code).toBe(8);
    expect(stderr).toContain("not-yet");
    expect((await visit(hostPort(one.first))).visits).toBeGreaterThan(0);
  });
});

describe("a host that is not up to it", () => {
  let home: string;

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), "spore-home-"));
  });

  afterEach(async () => {
    await sporectl(["node", "stop"], { home });
    expect((await traces(home)).filter((line) => line.includes(home))).toEqual([]);
    await rm(home, { recursive: true, force: true });
  });

  it("QEMU missing or too old: what to install", async () => {
    const old = join(home, "qemu-old");
    await writeFile(old, '#!/bin/sh\necho "QEMU emulator version 4.2.0"\n', { mode: 0o755 });
    for (const qemu of [join(home, "nowhere/qemu"), old]) {
      const { code, stderr } = await sporectl(["build", project, "-t", "x"], {
        home,
        env: { SPORELET_QEMU: qemu, SPORELET_NO_LOOP: "1" },
      });
      expect(code, stderr).toBe(11);
      expect(stderr).toContain("qemu-system-x86");
      await sporectl(["node", "stop"], { home });
    }
  });

  it("a full disk: nothing is lost, and it says so", async () => {
    const small = join(home, "small");
    await mkdir(small);
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=24m", "tmpfs", small]).status !== 0)
      throw new Error("mounting a tmpfs takes root");
    try {
      const { code, stderr } = await sporectl(["build", project, "-t", "x", "--layer", "0"], { home: small });
      expect(code, stderr).toBe(6);
      expect(stderr).toMatch(/space/);
      await sporectl(["node", "stop"], { home: small });
      expect((await traces(small)).filter((line) => line.includes(`${small}/`))).toEqual([]);
    } finally {
      spawnSync("umount", [small]);
    }
  });
});

/** Runs `sporectl` and presses Ctrl-C when it has said that; when it was just started if that is nothing. */
function interrupted(args: string[], said: string): Promise<Result> {
  let text = "";
  let interrupt: (() => void) | undefined;
  return sporectl(args, {
    onStart(child) {
      interrupt = () => child.kill("SIGINT");
      if (said === "") setTimeout(interrupt, 200);
    },
    onStderr(more) {
      text += more;
      if (said === "" || !text.split("\n").some((line) => line.startsWith(said))) return;
      interrupt?.();
      interrupt = undefined;
    },
  });
}

describe("Ctrl-C", () => {
  let before: string[];

  beforeAll(async () => {
    await buildHello();
    before = await traces(sharedHome);
  });

  // The first instant is before anything is said.
  it.each([
    ["", 9201],
    ["images:", 9202],
    ["boot:", 9203],
    ["up:", 9204],
  ])("when a build has said %j leaves nothing behind", async (said, port) => {
    const directory = await mkdtemp(join(tmpdir(), "spore-int-"));
    try {
      await cp(project, directory, { recursive: true });
      // A changed Compose file: the guest has to be warmed again.
      await writeFile(
        join(directory, "compose.yaml"),
        `${await readFile(join(directory, "compose.yaml"), "utf8")}\n# ${said} ${Date.now()}\n`,
      );
      await writeFile(
        join(directory, "sporelet.yaml"),
        `${await readFile(join(directory, "sporelet.yaml"), "utf8")}\nports: [8080, ${port}]\n`.replace(
          /^ports: \[8080\]\n/m,
          "",
        ),
      );
      const { code, stderr } = await interrupted(["build", directory, "-t", "bad:interrupted"], said);
      expect(code, stderr).toBe(130);
      expect(await traces(sharedHome)).toEqual(before);
      expect((await sporectl(["snapshot", "inspect", "bad:interrupted"])).code).toBe(3);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  it("at ten moments of a run leaves either nothing or what was asked for", async () => {
    for (let i = 0; i < 10; i++) {
      const { code } = await sporectl(["run", tag, "-n", "2", "--name", `cut${i}`], {
        onStart: (child) => setTimeout(() => child.kill("SIGINT"), 40 + i * 35),
      });
      const machines = (await sporectlJson<{ name: string }[]>(["ps", "-a"])).map((machine) => machine.name);
      const ours = machines.filter((name) => name.startsWith(`cut${i}`));
      if (code === 0) await ok(["rm", "-f", ...ours]);
      else expect(ours, `interrupted after ${40 + i * 35} ms`).toEqual([]);
    }
    expect(await traces(sharedHome)).toEqual(before);
  });
});

describe("spored", () => {
  it("is killed and started again while machines go on", async () => {
    await buildHello();
    await using one = await clones(["-p", "8080"]);
    const { visits } = await visit(hostPort(one.first));
    const { pid } = await sporectlJson<{ pid: number }>(["node", "status"]);
    process.kill(pid, "SIGKILL");
    const [again] = (await sporectlJson<{ id: string; state: string; pid: number }[]>(["ps"])).filter(
      ({ id }) => id === one.first.id,
    );
    expect(again).toMatchObject({ state: "running", pid: one.first.pid });
    expect((await visit(hostPort(one.first))).visits).toBe(visits + 1);
    expect(await ok(["exec", one.first.name, "echo", "still here"])).toBe("still here\n");
  });

  it("ends when told, and unmounts what it mounted", async () => {
    await ok(["node", "stop"]);
    const left = (await traces(sharedHome)).filter((line) =>
      /^(mount|loop|network|process|table)/.test(line),
    );
    expect(left).toEqual([]);
    // The next command starts it again, with everything still there.
    expect(await ok(["snapshot", "ls"])).toContain(tag);
  });
});
