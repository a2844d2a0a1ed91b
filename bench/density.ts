/** What a further dormant clone costs, and spored with many machines. */
import { readFile } from "node:fs/promises";
import type { NodeClient } from "@sporelet/api";
import { locateNode, sporeletHome } from "@sporelet/api";
import { memoryUse } from "@sporelet/host";
import { prepareBare } from "./floor.ts";
import { progress, started } from "./machines.ts";
import type { Suite } from "./parts.ts";
import { type Line, line } from "./report.ts";
import { diskCopy } from "./resumes.ts";

const clones = 200;
const firstClones = 20;
const bareMachines = 8;
const idleSeconds = 10;
const mebibyte = 2 ** 20;
/** USER_HZ (proc(5)). */
const ticksPerSecond = 100;

/** Memory of clones that are prepared, next to bare VMMs that have loaded the same state. */
export function measureDensity(suite: Suite): Promise<Line[]> {
  return suite.connected((node) => measurePrepared(suite, node));
}

async function measurePrepared({ snapshot, directory }: Suite, node: NodeClient): Promise<Line[]> {
  progress("bare VMMs");
  const bare = await prepareBare(
    { snapshotDirectory: directory, diskCopy: diskCopy(directory) },
    bareMachines,
  );
  const floor: number[] = [];
  for (const machine of bare) {
    // The guest of a slot has answered its agent once, too.
    await machine.resume();
    await machine.stop();
    floor.push((await memoryUse(machine.pid)).privateBytes / mebibyte);
    await machine.end();
  }

  // What all of them share comes with the first ones.
  const quarter = (clones - firstClones) / 4;
  const available: number[] = [];
  let privateBytes = 0;
  try {
    for (let count = firstClones; count <= clones; count += quarter) {
      progress(`${count} prepared clones`);
      const pool = await node.keepSlots({ snapshot, slots: count });
      if (pool.ready !== count)
        throw new Error(`only ${pool.ready} of ${count} were prepared: ${pool.problem}`);
      privateBytes = Number(pool.privateBytes);
      available.push(await availableBytes());
    }
  } finally {
    await node.keepSlots({ snapshot, slots: 0 });
  }
  const costs = available.slice(1).map((bytes, i) => ((available[i] ?? 0) - bytes) / quarter / mebibyte);
  return [
    line({
      name: `private memory of each of ${clones} prepared clones (floor: a bare VMM whose guest has answered)`,
      unit: "MiB",
      ours: [privateBytes / clones / mebibyte],
      floor,
      limit: { ratioToFloor: 1.1 },
    }),
    line({
      name: `memory of the host that each of the last ${quarter} of ${clones} takes (alternative: numbers ${firstClones + 1} to ${firstClones + quarter})`,
      unit: "MiB",
      ours: costs.slice(-1),
      alternative: costs.slice(0, 1),
      limit: { ratioToAlternative: 1.1 },
    }),
  ];
}

/** spored's own memory and CPU time, with paused machines and nothing to do. */
export function measureSpored(suite: Suite): Promise<Line[]> {
  return suite.connected((node) => measureIdle(suite, node));
}

async function measureIdle({ snapshot }: Suite, node: NodeClient): Promise<Line[]> {
  const ids: string[] = [];
  try {
    while (ids.length < clones) {
      progress(`machine ${ids.length + 1} of ${clones}`);
      const { id } = await started(node.run({ snapshot }));
      ids.push(id);
      await node.pause({ machine: id });
    }
    progress("doing nothing");
    const pid = locateNode(sporeletHome())?.pid ?? 0;
    const before = await cpuSeconds(pid);
    await new Promise((resolve) => setTimeout(resolve, idleSeconds * 1000));
    const cpuShare = ((await cpuSeconds(pid)) - before) / idleSeconds;
    const { rssBytes } = await memoryUse(pid);
    return [
      line({
        name: `resident memory of spored with ${clones} machines`,
        unit: "MB",
        ours: [rssBytes / 1e6],
        limit: { median: 150 },
      }),
      line({
        name: `CPU time of spored with ${clones} machines and nothing to do`,
        unit: "% of a core",
        ours: [cpuShare * 100],
        limit: { median: 1 },
      }),
    ];
  } finally {
    for (const machine of ids) await node.removeMachine({ machine, force: true });
  }
}

/** MemAvailable: what the host could still give away. */
export async function availableBytes(): Promise<number> {
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec(await readFile("/proc/meminfo", "utf8"))?.[1];
  return Number(kilobytes) * 1024;
}

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
