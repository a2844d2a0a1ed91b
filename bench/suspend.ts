import type { NodeClient } from "@sporelet/api";
import { progress, started } from "./machines.ts";
import type { Suite } from "./parts.ts";
import { type Line, line } from "./report.ts";

const asleepMs = 1000;
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
      const machine = await started(node.run({ snapshot }));
      resumes.push(machine.timings?.readyMs ?? Number.NaN);
      await shell(node, machine.id, dirty);
      const begunAt = performance.now();
      await node.suspend({ machine: machine.id });
      suspends.push(performance.now() - begunAt);
      await new Promise((resolve) => setTimeout(resolve, asleepMs));
      const { timings } = await node.wake({ machine: machine.id });
      wakes.push(timings?.readyMs ?? Number.NaN);
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
      name: "wake to ready, a second later (alternative: resume without a slot)",
      unit: "ms",
      ours: wakes,
      alternative: resumes,
      limit: { ratioToAlternative: 1.3 },
    }),
  ];
}

async function shell(node: NodeClient, machine: string, script: string): Promise<void> {
  async function* requests() {
    yield { request: { case: "start" as const, value: { machine, argv: ["sh", "-c", script] } } };
  }
  for await (const { response } of node.exec(requests())) {
    if (response.case === "exit" && response.value.code !== 0) throw new Error(`${script} failed`);
  }
}
