import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../testing/index.ts";
import { canMergeByProcess, memoryMerging, withMergedMemory } from "./merging.ts";

const merged = async (pid: number) =>
  /^ksm_merge_any: yes$/m.test(await readFile(`/proc/${pid}/ksm_stat`, "utf8").catch(() => ""));

/** The kernel's switch as a file, so that the tests leave the host's as it is. */
async function pretend(before: string) {
  const directory = await temporaryDirectory();
  const kernelDirectory = join(directory.path, "ksm");
  await mkdir(kernelDirectory);
  const run = join(kernelDirectory, "run");
  await writeFile(run, `${before}\n`);
  const options = { kernelDirectory, stateDirectory: join(directory.path, "state") };
  return {
    /** Another spored has the same files, and nothing in common otherwise. */
    spored: () => memoryMerging(options),
    run: async () => (await readFile(run, "utf8")).trim(),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

function sleeper() {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const ended = once(child, "exit");
  const end = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  return { pid: child.pid ?? 0, end, [Symbol.asyncDispose]: end };
}

const root = process.getuid?.() === 0;

it("is passed on to a child over execve, and this process does not keep it", async (ctx) => {
  const before = await readFile("/proc/self/ksm_stat", "utf8").catch(() => "");
  ctx.skip(!before.includes("ksm_merge_any"), "this kernel does not say whose memory is merged (Linux 6.15)");
  const child = withMergedMemory(() =>
    spawn("sh", ["-c", "sleep 60; :"], { stdio: "ignore", detached: true }),
  );
  await using _group = {
    async [Symbol.asyncDispose]() {
      process.kill(-(child.pid ?? 0), "SIGKILL");
      await once(child, "exit");
    },
  };
  await expect.poll(() => readFile(`/proc/${child.pid}/comm`, "utf8")).toBe("sh\n");
  expect(await merged(child.pid ?? 0)).toBe(true);
  expect(await merged(process.pid)).toBe(false);
});

it.skipIf(!root)("is on from the first machine to the last", async () => {
  await using host = await pretend("0");
  await using one = sleeper();
  await using two = sleeper();
  const merging = host.spored();
  await merging.enter("team-a", one.pid);
  expect(await host.run()).toBe("1");
  await merging.enter("team-a", two.pid);
  await merging.leave(one.pid);
  expect(await host.run()).toBe("1");
  await merging.leave(two.pid);
  expect(await host.run()).toBe("0");
});

it.skipIf(!root)("takes many machines that start at once", async () => {
  await using host = await pretend("0");
  await using one = sleeper();
  const merging = host.spored();
  const others = Array.from({ length: 12 }, sleeper);
  try {
    await Promise.all([one, ...others].map(({ pid }) => merging.enter("team-a", pid)));
    await Promise.all(others.map(({ pid }) => merging.leave(pid)));
    expect(await host.run()).toBe("1");
    await merging.leave(one.pid);
    expect(await host.run()).toBe("0");
  } finally {
    await Promise.all(others.map(({ end }) => end()));
  }
});

it.skipIf(!root)("leaves merging on where it was on before", async () => {
  await using host = await pretend("1");
  await using one = sleeper();
  const merging = host.spored();
  await merging.enter("team-a", one.pid);
  await merging.leave(one.pid);
  expect(await host.run()).toBe("1");
});

it.skipIf(!root)("refuses a second domain, of another spored too, and says why", async () => {
  await using host = await pretend("0");
  await using one = sleeper();
  await using two = sleeper();
  await host.spored().enter("team-a", one.pid);
  await expect(host.spored().enter("team-b", two.pid)).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringMatching(/machines of the domain team-a are merged on this host/),
  });
  await one.end();
  await host.spored().enter("team-b", two.pid);
});

it.skipIf(!root)("is switched back after a crash, when the machines have ended too", async () => {
  await using host = await pretend("0");
  await using one = sleeper();
  await host.spored().enter("team-a", one.pid);
  await host.spored().sweep();
  expect(await host.run()).toBe("1");
  await one.end();
  await host.spored().sweep();
  expect(await host.run()).toBe("0");
});

it.skipIf(!root)("says so when the kernel has none", async () => {
  await using directory = await temporaryDirectory();
  const merging = memoryMerging({ kernelDirectory: directory.path, stateDirectory: directory.path });
  await expect(merging.enter("team-a", process.pid)).rejects.toMatchObject({ code: "unsupported" });
});

it("is known by the kernel's release", () => {
  expect(["6.7.0", "6.18.44-fc", "7.0-rc1", "10.2"].map(canMergeByProcess)).not.toContain(false);
  expect(["6.6.9", "6.1.0-40-amd64", "5.15"].map(canMergeByProcess)).not.toContain(true);
});
