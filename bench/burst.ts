/** How long it takes until the last of many clones is ready that are asked for at once. */
import type { NodeClient } from "@sporelet/api";
import { runFloorBurst } from "./floor.ts";
import { progress } from "./machines.ts";
import type { Suite } from "./parts.ts";
import { type Line, line } from "./report.ts";
import { diskCopy } from "./resumes.ts";

const clones = 16;

export function measureBurst(suite: Suite): Promise<Line[]> {
  return suite.connected((node) => measure(suite, node));
}

async function measure(suite: Suite, node: NodeClient): Promise<Line[]> {
  const { snapshot, directory } = suite;
  const ours: number[] = [];
  const floor: number[] = [];
  const rehearsed: number[] = [];
  const rounds = suite.runs(6);
  for (let i = 0; i < rounds; i++) {
    progress(`burst ${i + 1} of ${rounds}`);
    const { ready } = await node.keepSlots({ snapshot, slots: clones });
    if (ready !== clones) throw new Error(`only ${ready} slots were prepared`);
    ours.push(await burst(suite, node));
    await node.keepSlots({ snapshot, slots: 0 });
    const bare = { snapshotDirectory: directory, diskCopy: diskCopy(directory) };
    floor.push(await runFloorBurst(bare, clones, { rehearsed: false }));
    rehearsed.push(await runFloorBurst(bare, clones, { rehearsed: true }));
  }
  const name = `${clones} resumes at once from slots, until the last is ready`;
  return [
    line({
      ...{ name: `${name} (floor: as many bare VMMs)`, unit: "ms", ours, floor },
      limit: { ratioToFloor: 1.2 },
    }),
    line({
      ...{ name: `${name} (floor: as many bare VMMs that have rehearsed)`, unit: "ms", ours },
      ...{ floor: rehearsed, limit: {} },
    }),
  ];
}

/** @returns until the last one is ready, milliseconds; they are gone then */
async function burst({ snapshot }: Suite, node: NodeClient): Promise<number> {
  const start = performance.now();
  const ids: string[] = [];
  let lastMs = Number.NaN;
  for await (const { event } of node.run({ snapshot, count: clones })) {
    if (event.case !== "ready") continue;
    ids.push(event.value.id);
    lastMs = performance.now() - start;
  }
  for (const machine of ids) await node.removeMachine({ machine, force: true });
  if (ids.length !== clones) throw new Error(`only ${ids.length} clones were started`);
  return lastMs;
}
