/**
 * What a resume costs: from a slot and without one, next to the bare VMM and to a cold boot. Nothing is prepared in the
 * background meanwhile, and each of the two goes first every other time.
 */
import { dirname, join } from "node:path";
import type { NodeClient } from "@sporelet/api";
import { type Docker, freePort, imageArchives, startDocker } from "./docker.ts";
import { runFloor, runFloorStart } from "./floor.ts";
import { progress, started, visit } from "./machines.ts";
import { guestPort, type Suite } from "./parts.ts";
import { type Line, line } from "./report.ts";

export function measureResumes(suite: Suite): Promise<Line[]> {
  return suite.connected((node) => measure(suite, node));
}

async function measure(suite: Suite, node: NodeClient): Promise<Line[]> {
  const { snapshot, directory } = suite;
  const fromSlot: Resume[] = [];
  const without: Resume[] = [];
  const floor: { resumeMs: number; againMs: number }[] = [];
  const startedBare: number[] = [];
  const container: number[] = [];
  const count = suite.runs(100);
  const bare = { snapshotDirectory: directory, diskCopy: diskCopy(directory) };
  await using docker = await startDocker(await imageArchives(dirname(dirname(directory))));
  const redis = await docker.run({
    image: "hello-redis:1",
    command: ["redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no", "--hz", "1"],
  });
  const redisHost = await docker.address(redis);
  await node.warmCache({ snapshot });
  try {
    for (let i = 0; i < count; i++) {
      progress(`resume ${i + 1} of ${count}`);
      const turns = [
        async () => void fromSlot.push(await resumeFromSlot(suite, node)),
        async () => void floor.push(...(await runFloor({ ...bare, runs: 1 }))),
      ];
      for (const turn of i % 2 === 0 ? turns : turns.reverse()) await turn();
      if (i % 5 === 0) {
        without.push(await resumeOnce(suite, node));
        startedBare.push(await runFloorStart(bare));
        container.push(await dockerRun(docker, redisHost));
      }
    }
  } finally {
    await node.keepSlots({ snapshot, slots: 0 });
  }
  const cold = [await coldBoot(suite, node)];
  return [
    line({
      name: "resume from a slot to the agent's answer (floor: a bare VMM that has loaded the state)",
      unit: "ms",
      ours: fromSlot.map(({ agentMs }) => agentMs),
      floor: floor.map(({ resumeMs }) => resumeMs),
      limit: { ratioToFloor: 1.15 },
    }),
    line({
      name: "resume from a slot to the agent's answer (floor: a bare VMM whose guest has rehearsed)",
      unit: "ms",
      ours: fromSlot.map(({ agentMs }) => agentMs),
      floor: floor.map(({ againMs }) => againMs),
      limit: {},
    }),
    line({
      name: "resume from a slot to ready, as its client sees it",
      unit: "ms",
      ours: fromSlot.map(({ readyMs }) => readyMs),
      limit: { median: 50, p99: 150 },
    }),
    line({
      name: "resume from a slot to the first HTTP response (alternative: cold boot)",
      unit: "ms",
      ours: fromSlot.map(({ responseMs }) => responseMs),
      alternative: cold,
      limit: { ratioToAlternative: 1 / 250 },
    }),
    line({
      name: "resume from a slot to the first HTTP response (alternative: docker run of the same image)",
      unit: "ms",
      ours: fromSlot.map(({ responseMs }) => responseMs),
      alternative: container,
      limit: { ratioToAlternative: 1 },
    }),
    line({
      name: "resume without a slot to ready, as its client sees it (floor: a bare VMM, started, to the agent's answer)",
      unit: "ms",
      ours: without.map(({ readyMs }) => readyMs),
      floor: startedBare,
      limit: { ratioToFloor: 1.5 },
    }),
  ];
}

/** Where the floor puts its disks: beside the snapshots, so that they are reflinks. */
export function diskCopy(snapshotDirectory: string): string {
  return join(snapshotDirectory, "../../tmp/floor-disk");
}

interface Resume {
  /** spored's own figure: from the load of the state. */
  agentMs: number;
  /** From the request for a machine on: to the word that it is ready, and to its first response. */
  readyMs: number;
  responseMs: number;
  fromPool: boolean;
}

/** Takes the only slot, of which there is no other until the next time. */
async function resumeFromSlot(suite: Suite, node: NodeClient): Promise<Resume> {
  const { snapshot } = suite;
  const { ready } = await node.keepSlots({ snapshot, slots: 1 });
  if (ready !== 1) throw new Error("no slot was prepared");
  const resume = await resumeOnce(suite, node);
  await node.keepSlots({ snapshot, slots: 0 });
  if (!resume.fromPool) throw new Error("it was not taken from the slot");
  return resume;
}

/** One clone, from the request to its first response; gone afterwards. */
async function resumeOnce({ snapshot }: Suite, node: NodeClient): Promise<Resume> {
  const start = performance.now();
  const machine = await started(node.run({ snapshot, ports: [{ guest: guestPort }] }));
  const readyMs = performance.now() - start;
  await visit(machine.ports[0]?.host ?? 0);
  const responseMs = performance.now() - start;
  await node.removeMachine({ machine: machine.id, force: true });
  if (machine.timings === undefined) throw new Error("spored reported no timings");
  const { loadMs, agentMs, fromPool } = machine.timings;
  return { agentMs: loadMs + agentMs, readyMs, responseMs, fromPool };
}

/** A container of the API next to a Redis that runs already: more than the clone finds is not left to be done. */
async function dockerRun(docker: Docker, redisHost: string): Promise<number> {
  const port = await freePort();
  const start = performance.now();
  const id = await docker.run({
    image: "hello-api:1",
    environment: [`REDIS_HOST=${redisHost}`],
    publish: { container: guestPort, host: port },
  });
  await firstAnswer(port, start + 60_000);
  const responseMs = performance.now() - start;
  await docker.remove(id);
  return responseMs;
}

async function coldBoot({ snapshot }: Suite, node: NodeClient): Promise<number> {
  progress("cold boot");
  const start = performance.now();
  const machine = await started(node.boot({ snapshot, ports: [{ guest: guestPort }] }));
  try {
    await firstAnswer(machine.ports[0]?.host ?? 0, start + 300_000);
    return performance.now() - start;
  } finally {
    await node.removeMachine({ machine: machine.id, force: true });
  }
}

async function firstAnswer(port: number, deadline: number): Promise<void> {
  while (performance.now() < deadline) {
    const answered = await visit(port).then(
      () => true,
      () => false,
    );
    if (answered) return;
    // Not up yet; asking without a pause would take the CPU that it needs.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`nothing answered on port ${port}`);
}
