/**
 * `make bench`: what a resume of examples/hello-compose costs, next to the floor (the bare VMM, driven by
 * floor.ts with the same files) and to a cold boot. Ours and the floor are measured by turns in one run, because
 * times on a shared machine drift. Prints a table, writes out/bench.json and out/bench.md, and ends with 1 when
 * a line does not hold. BENCH_RUNS sets the number of resumes (default 20).
 */
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connectNode, sporeletHome } from "@sporelet/api";
import { runFloor } from "./floor.ts";
import { progress, started, visit } from "./machines.ts";
import { type Line, line, markdown } from "./report.ts";

const top = join(import.meta.dirname, "..");
const runs = Number(process.env.BENCH_RUNS ?? 20);
const pauses = 5;
const snapshot = "hello";
const guestPort = 8080;

execFileSync(join(top, "dist/sporectl"), ["build", join(top, "examples/hello-compose"), "-t", snapshot], {
  stdio: ["ignore", "ignore", "inherit"],
});
using client = await connectNode(sporeletHome());
const { directory } = await client.inspectSnapshot({ snapshot });

const ours: { agentMs: number; readyMs: number; responseMs: number }[] = [];
const floor: number[] = [];
for (let i = 0; i < runs; i++) {
  const [bare] = await runFloor({
    snapshotDirectory: directory,
    diskCopy: join(directory, "../../tmp/floor-disk"),
    runs: 1,
  });
  if (bare !== undefined) floor.push(bare.agentMs);
  ours.push(await resumeOnce());
  progress(`resume ${i + 1} of ${runs}`);
}
const pauseMs = await freezeRepeatedly();
const coldMs = await coldBoot();

const lines: Line[] = [
  line({
    name: "resume to the agent's answer",
    unit: "ms",
    ours: ours.map((run) => run.agentMs),
    floor,
    limit: { ratioToFloor: 1.5 },
  }),
  line({
    name: "resume to ready, VMM start included",
    unit: "ms",
    ours: ours.map((run) => run.readyMs),
    limit: { median: 120 },
  }),
  line({
    name: "resume to the first HTTP response (alternative: cold boot)",
    unit: "ms",
    ours: ours.map((run) => run.responseMs),
    alternative: [coldMs],
    limit: { ratioToAlternative: 1 / 50 },
  }),
  line({
    name: "snapshot of a running clone, pause to resumed",
    unit: "ms",
    ours: pauseMs,
    limit: { median: 300 },
  }),
];
await mkdir(join(top, "out"), { recursive: true });
await writeFile(join(top, "out/bench.json"), `${JSON.stringify(lines, undefined, 2)}\n`);
await writeFile(join(top, "out/bench.md"), markdown(lines));
process.stdout.write(markdown(lines));
process.exitCode = lines.every(({ holds }) => holds) ? 0 : 1;

/** One clone, from the request to its first response; gone afterwards. */
async function resumeOnce(): Promise<{ agentMs: number; readyMs: number; responseMs: number }> {
  const start = performance.now();
  const machine = await started(client.run({ snapshot, ports: [{ guest: guestPort }] }));
  await visit(machine.ports[0]?.host ?? 0);
  const responseMs = performance.now() - start;
  await client.removeMachine({ machine: machine.id, force: true });
  const { slotMs, loadMs, agentMs, readyMs } = machine.timings ?? {};
  if (slotMs === undefined || loadMs === undefined || agentMs === undefined || readyMs === undefined) {
    throw new Error("spored reported no timings");
  }
  return { agentMs: slotMs + loadMs + agentMs, readyMs, responseMs };
}

async function freezeRepeatedly(): Promise<number[]> {
  const results: number[] = [];
  const machine = await started(client.run({ snapshot, ports: [{ guest: guestPort }] }));
  try {
    await visit(machine.ports[0]?.host ?? 0);
    for (let i = 0; i < pauses; i++) {
      const created = await client.createSnapshot({
        machine: machine.id,
        tag: `bench-${process.pid}:pause`,
        force: true,
      });
      results.push(created.pauseMs);
      await client.removeSnapshot({ snapshot: created.digest, force: true });
      progress(`snapshot ${i + 1} of ${pauses}`);
    }
  } finally {
    await client.removeMachine({ machine: machine.id, force: true });
  }
  return results;
}

async function coldBoot(): Promise<number> {
  progress("cold boot");
  const start = performance.now();
  const machine = await started(client.boot({ snapshot, ports: [{ guest: guestPort }] }));
  try {
    const deadline = start + 300_000;
    while (performance.now() < deadline) {
      const answered = await visit(machine.ports[0]?.host ?? 0).then(
        () => true,
        () => false,
      );
      if (answered) return performance.now() - start;
      // Not up yet; asking without a pause would take the CPU that the guest needs.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("the cold machine did not answer within five minutes");
  } finally {
    await client.removeMachine({ machine: machine.id, force: true });
  }
}
