import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { locateNode, sporeletHome } from "@sporelet/api";
import { memoryUse } from "@sporelet/host";
import { availableBytes } from "./density.ts";
import { progress, shell, started } from "./machines.ts";
import type { Suite } from "./parts.ts";
import { type Line, line } from "./report.ts";

const asleepMs = 1000;
/** Of many machines so many are woken. */
const sampled = 20;
/** Before that, what is still being written of the ones that fell asleep last comes to its end. */
const writtenMs = 10_000;
/** Of many machines so many are dealt with at a time. */
const atOnce = 4;
const dirtyBytes = 20 * 2 ** 20;
const dirty = `dd if=/dev/urandom of=/run/changed bs=64k count=${dirtyBytes / 2 ** 16} 2>/dev/null`;

/** What it costs to suspend a clone, and to wake it, next to a resume of the same snapshot without a prepared slot. */
export async function measureSuspensions({ snapshot, runs, connected }: Suite): Promise<Line[]> {
  const resumes: number[] = [];
  const suspends: number[] = [];
  const wakes: number[] = [];
  await connected(async (node) => {
    const count = runs(20);
    for (let i = 0; i < count; i++) {
      const askedAt = performance.now();
      const machine = await started(node.run({ snapshot }));
      resumes.push(performance.now() - askedAt);
      await shell(node, machine.id, dirty);
      const begunAt = performance.now();
      await node.suspend({ machine: machine.id });
      suspends.push(performance.now() - begunAt);
      await sleep(asleepMs);
      const wokenAt = performance.now();
      await node.wake({ machine: machine.id });
      wakes.push(performance.now() - wokenAt);
      await node.removeMachine({ machine: machine.id, force: true });
      progress(`suspend and wake ${i + 1} of ${count}`);
    }
  });
  return [
    line({
      name: "suspend of a clone that dirtied 20 MB, from the request to the end of its process",
      unit: "ms",
      ours: suspends,
      limit: { median: 400 },
    }),
    line({
      name: "wake to ready as its client sees it, a second later (alternative: resume without a slot)",
      unit: "ms",
      ours: wakes,
      alternative: resumes,
      limit: { ratioToAlternative: 1.3 },
    }),
  ];
}

/** What machines cost that sleep: so many that one more or less makes no difference. */
export async function measureSleepers({ snapshot, connected }: Suite): Promise<Line[]> {
  const count = Number(process.env.BENCH_SLEEPERS ?? 2000);
  const ids: string[] = [];
  return await connected(async (node) => {
    const wake = async (machine: string) => {
      const { timings } = await node.wake({ machine });
      await node.suspend({ machine });
      return timings?.readyMs ?? Number.NaN;
    };
    const sample = async (from: readonly string[]) => {
      const times: number[] = [];
      await sleep(writtenMs);
      for (const id of from) times.push(await wake(id));
      return times;
    };
    let begun = 0;
    const lullAFew = async (until: number) => {
      while (begun < until) {
        begun += 1;
        const { id } = await started(node.run({ snapshot }));
        ids.push(id);
        await node.suspend({ machine: id });
        progress(`${ids.length} of ${count} asleep`);
      }
    };
    try {
      await lullAFew(sampled);
      const first = await sample(ids);
      const before = await availableUncached();
      // Some wait for the disk while others are started.
      await Promise.all(Array.from({ length: atOnce }, () => lullAFew(count)));
      const pid = locateNode(sporeletHome())?.pid ?? 0;
      const { rssBytes } = await memoryUse(pid);
      const last = await sample(ids.slice(-sampled));
      const taken = before - (await availableUncached());
      return [
        line({
          name: `memory of the host that each of ${count} suspended clones takes`,
          ...{ unit: "MiB", ours: [taken / (count - sampled) / 2 ** 20], limit: { median: 0.25 } },
        }),
        line({
          name: `resident memory of spored with ${count} suspended clones`,
          ...{ unit: "MB", ours: [rssBytes / 1e6], limit: {} },
        }),
        line({
          name: `wake of one of ${count} to ready (alternative: of one of ${sampled})`,
          ...{ unit: "ms", ours: last, alternative: first, limit: { ratioToAlternative: 1.2 } },
        }),
      ];
    } finally {
      progress("removing them");
      const remove = async () => {
        for (let machine = ids.pop(); machine !== undefined; machine = ids.pop()) {
          await node.removeMachine({ machine, force: true });
        }
      };
      await Promise.all(Array.from({ length: atOnce }, remove));
    }
  });
}

/**
 * What the host could still give away without what the kernel only keeps for speed: MemAvailable does not count on
 * the buffers of a file system's metadata, though they go when memory is needed.
 */
async function availableUncached(): Promise<number> {
  await writeFile("/proc/sys/vm/drop_caches", "2");
  return await availableBytes();
}
