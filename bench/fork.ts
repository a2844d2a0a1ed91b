/**
 * What forks of a running clone of examples/hello-compose cost its guest, next to the floor (freeze-floor.ts: the
 * bare VMM is stopped, its device state saved and its dirty pages copied to a file). Both by turns on one machine,
 * after the same work. Prints a table, writes out/bench-fork.json and out/bench-fork.md, and ends with 1 when a
 * line does not hold. BENCH_RUNS sets the number of forks (default 20), BENCH_SNAPSHOT another snapshot than
 * hello, which is then not built.
 */
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { connectNode, type node as messages, sporeletHome } from "@sporelet/api";
import { runFreezeFloor } from "./freeze-floor.ts";
import { progress, started, visit } from "./machines.ts";
import { line, markdown } from "./report.ts";

const top = join(import.meta.dirname, "..");
const runs = Number(process.env.BENCH_RUNS ?? 20);
const snapshot = process.env.BENCH_SNAPSHOT ?? "hello";
const guestPort = 8080;

if (process.env.BENCH_SNAPSHOT === undefined) {
  execFileSync(join(top, "dist/sporectl"), ["build", join(top, "examples/hello-compose"), "-t", snapshot], {
    stdio: ["ignore", "ignore", "inherit"],
  });
}
using client = await connectNode(sporeletHome());
const { directory } = await client.inspectSnapshot({ snapshot });
const store = dirname(dirname(directory));
const parent = await started(client.run({ snapshot, ports: [{ guest: guestPort }] }));
const ours: number[] = [];
const floor: number[] = [];
const ready: number[] = [];
const copied: number[] = [];
try {
  // The first requests touch what the later ones touch again.
  for (let i = 0; i < 20; i++) await visit(parent.ports[0]?.host ?? 0);
  for (let i = 0; i < runs; i++) {
    await visit(parent.ports[0]?.host ?? 0);
    const bare = await runFreezeFloor({
      pid: parent.pid,
      memory: join(directory, "memory"),
      scratch: join(store, "tmp"),
    });
    floor.push(bare.pauseMs);
    copied.push(bare.copiedBytes / 2 ** 20);
    await visit(parent.ports[0]?.host ?? 0);
    const fork = await forkOnce();
    ours.push(fork.pauseMs);
    ready.push(fork.readyMs);
    progress(`fork ${i + 1} of ${runs}`);
  }
} finally {
  await client.removeMachine({ machine: parent.id, force: true });
}

const lines = [
  line({
    name: "fork of a running clone: its parent stands still",
    unit: "ms",
    ours,
    floor,
    limit: { ratioToFloor: 1.5 },
  }),
  line({ name: "fork of a running clone: until the child is ready", unit: "ms", ours: ready, limit: {} }),
  line({ name: "pages that the clone had made its own", unit: "MiB", ours: copied, limit: {} }),
];
await mkdir(join(top, "out"), { recursive: true });
await writeFile(join(top, "out/bench-fork.json"), `${JSON.stringify(lines, undefined, 2)}\n`);
await writeFile(join(top, "out/bench-fork.md"), markdown(lines));
process.stdout.write(markdown(lines));
process.exitCode = lines.every(({ holds }) => holds) ? 0 : 1;

/** One child, which is gone afterwards with what it was forked from. */
async function forkOnce(): Promise<{ pauseMs: number; readyMs: number }> {
  let forked: messages.Forked | undefined;
  let child: messages.Machine | undefined;
  for await (const { event } of client.fork({ machine: parent.id, ports: [{ guest: guestPort }] })) {
    if (event.case === "forked") forked = event.value;
    if (event.case === "ready") child = event.value;
  }
  if (forked === undefined || child === undefined) throw new Error("spored reported no child");
  await visit(child.ports[0]?.host ?? 0);
  await client.removeMachine({ machine: child.id, force: true });
  await client.removeSnapshot({ snapshot: forked.digest });
  return { pauseMs: forked.pauseMs, readyMs: child.timings?.readyMs ?? Number.NaN };
}
