import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { getPriority } from "node:os";
import { afterEach, describe, expect, it } from "vitest";
import { niceValues, weighProcess } from "./cpu-weight.ts";
import { runProcess } from "./process.ts";

const isRoot = process.getuid?.() === 0;

describe("the weight of a process", () => {
  const started: ChildProcess[] = [];
  /** A process of several threads, in a session of its own. */
  const program = async () => {
    const child = spawn(process.execPath, ["-e", "console.log(1); setInterval(() => {}, 1000)"], {
      detached: true,
      stdio: ["ignore", "pipe", "inherit"],
    });
    started.push(child);
    await once(child.stdout as NonNullable<typeof child.stdout>, "data");
    return child.pid as number;
  };
  const end = async (child: ChildProcess) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  };
  afterEach(async () => {
    for (const child of started.splice(0)) await end(child);
  });

  it("is that of all its threads, and of its session", async (ctx) => {
    if (!isRoot) ctx.skip("only root may raise a priority again");
    const pid = await program();
    for (const weight of ["preparing", "resuming", "running"] as const) {
      weighProcess(pid, weight);
      const threads = (await readdir(`/proc/${pid}/task`)).map(Number);
      expect(threads.length).toBeGreaterThan(1);
      for (const thread of threads) expect(getPriority(thread)).toBe(niceValues[weight]);
      const session = await readFile(`/proc/${pid}/autogroup`, "utf8").catch(() => undefined);
      if (session !== undefined) expect(session).toContain(`nice ${niceValues[weight]}\n`);
    }
  });

  it("stays as it is where it could not be taken back", async (ctx) => {
    if (!isRoot) ctx.skip("only root can give up a capability of root's");
    const pid = await program();
    const module = new URL("./cpu-weight.ts", import.meta.url).href;
    const script = `import { weighProcess } from "${module}"; weighProcess(${pid}, "preparing");`;
    const argv = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", process.execPath];
    await runProcess([...argv, "--input-type=module", "-e", script], { operation: "weigh" });
    expect(getPriority(pid)).toBe(0);
  });

  it("does not matter to one that has ended", async () => {
    const pid = await program();
    for (const child of started) await end(child);
    weighProcess(pid, "running");
  });
});
