/**
 * Draws where the time of resumes from a slot goes: `node bench/timeline.ts [RUNS] > docs/performance/resume.svg`.
 * Each stage is as wide as its median over the runs (default 50), on one scale with the bare VMM's way to the agent's
 * answer. Needs the demo's snapshot (`make bench`, `make demo`). Prints the medians to standard error.
 */
import type { node as messages, NodeClient } from "@sporelet/api";
import { runFloor } from "./floor.ts";
import { progress, started } from "./machines.ts";
import { openSuite } from "./parts.ts";
import { diskCopy } from "./resumes.ts";
import { median } from "./statistics.ts";
import { type Bar, timeline } from "./timeline-picture.ts";

const runs = Number(process.argv[2] ?? 50);
const { snapshot, directory, connected } = await openSuite();
const bars = await connected(measure);
process.stdout.write(timeline(bars));
for (const { title, stages } of bars) {
  const text = stages.map(({ name, ms }) => `${name} ${ms.toFixed(2)}`).join(", ");
  process.stderr.write(`${title}: ${text}\n`);
}

async function measure(node: NodeClient): Promise<Bar[]> {
  const timings: messages.Timings[] = [];
  const bare: { resumeMs: number; againMs: number }[] = [];
  await node.warmCache({ snapshot });
  try {
    for (let i = 0; i < runs; i++) {
      progress(`resume ${i + 1} of ${runs}`);
      await node.keepSlots({ snapshot, slots: 1 });
      const machine = await started(node.run({ snapshot }));
      if (machine.timings?.fromPool !== true) throw new Error("it was not taken from a slot");
      timings.push(machine.timings);
      await node.removeMachine({ machine: machine.id, force: true });
      // Nothing is prepared while the other is measured.
      await node.keepSlots({ snapshot, slots: 0 });
      const [floor] = await runFloor({
        snapshotDirectory: directory,
        diskCopy: diskCopy(directory),
        runs: 1,
      });
      if (floor !== undefined) bare.push(floor);
    }
  } finally {
    await node.keepSlots({ snapshot, slots: 0 });
  }
  const of = (pick: (each: messages.Timings) => number) => median(timings.map(pick));
  const guest = (pick: (each: messages.GuestStages) => number) =>
    of(({ guest: each }) => (each === undefined ? Number.NaN : pick(each)));
  const unique = [
    { name: "clock", ms: guest(({ clockMs }) => clockMs) },
    { name: "entropy", ms: guest(({ entropyMs }) => entropyMs) },
    { name: "identity", ms: guest(({ identityMs }) => identityMs) },
    { name: "network", ms: guest(({ networkMs }) => networkMs) },
    { name: "thaw", ms: guest(({ thawMs }) => thawMs) },
    { name: "hooks", ms: guest(({ hooksMs }) => hooksMs) },
  ];
  const inGuest = unique.reduce((sum, { ms }) => sum + ms, 0);
  const host = [
    { name: "plan", ms: of(({ planMs }) => planMs) },
    { name: "slot", ms: of(({ slotMs }) => slotMs) },
    { name: "load", ms: of(({ loadMs }) => loadMs) },
  ];
  const agentMs = of((each) => each.agentMs);
  return [
    {
      title: "from a slot",
      stages: [
        ...host,
        // From the command to run to the first word that the agent reads, and from its last to ours.
        { name: "wake-up and answer", ms: Math.max(0, agentMs - inGuest) },
        ...unique,
        { name: "ports and record", ms: of(({ readyStageMs }) => readyStageMs) },
      ],
    },
    {
      title: "bare VMM, state loaded, to the agent's answer",
      stages: [{ name: "all", ms: median(bare.map(({ resumeMs }) => resumeMs)) }],
    },
    {
      title: "the same once more, as a slot's guest has done it before",
      stages: [{ name: "all", ms: median(bare.map(({ againMs }) => againMs)) }],
    },
  ];
}
