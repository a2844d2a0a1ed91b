/**
 * What forks of a running clone cost its guest, next to the floor (freeze-floor.ts: the bare VMM is stopped, its
 * device state saved and its dirty pages copied to a file). Both by turns on one machine, after the same work.
 */
import { dirname, join } from "node:path";
import type { node as messages, NodeClient } from "@sporelet/api";
import { runFreezeFloor } from "./freeze-floor.ts";
import { progress, started, visit } from "./machines.ts";
import { guestPort, type Suite } from "./parts.ts";
import { type Line, line } from "./report.ts";

export function measureForks(suite: Suite): Promise<Line[]> {
  return suite.connected((node) => measure(suite, node));
}

async function measure(suite: Suite, node: NodeClient): Promise<Line[]> {
  const { snapshot, directory } = suite;
  const runs = suite.runs(20);
  const store = dirname(dirname(directory));
  const parent = await started(node.run({ snapshot, ports: [{ guest: guestPort }] }));
  const port = parent.ports[0]?.host ?? 0;
  const [ours, floor, ready, copied]: [number[], number[], number[], number[]] = [[], [], [], []];
  const [waited, bareWaited]: [number[], number[]] = [[], []];
  try {
    // The first requests touch what the later ones touch again.
    for (let i = 0; i < 20; i++) await visit(port);
    for (let i = 0; i < runs; i++) {
      progress(`fork ${i + 1} of ${runs}`);
      await visit(port);
      await using visits = visitor(port);
      const bare = await runFreezeFloor({
        pid: parent.pid,
        memory: join(directory, "memory"),
        scratch: join(store, "tmp"),
      });
      bareWaited.push(await visits.longest());
      floor.push(bare.pauseMs);
      copied.push(bare.copiedBytes / 2 ** 20);
      await visit(port);
      const fork = await forkOnce(node, parent);
      ours.push(fork.pauseMs);
      waited.push(fork.waitedMs);
      ready.push(fork.readyMs);
    }
  } finally {
    await node.removeMachine({ machine: parent.id, force: true });
  }
  return [
    line({
      name: "fork of a running clone: its parent stands still",
      unit: "ms",
      ours,
      floor,
      limit: { ratioToFloor: 1.5 },
    }),
    line({
      name: "fork of a running clone: the longest that a request to its parent takes meanwhile",
      unit: "ms",
      ours: waited,
      floor: bareWaited,
      limit: {},
    }),
    line({ name: "fork of a running clone: until the child is ready", unit: "ms", ours: ready, limit: {} }),
    line({ name: "pages that the clone had made its own", unit: "MiB", ours: copied, limit: {} }),
  ];
}

/** One child, which is gone afterwards with what it was forked from. */
async function forkOnce(
  node: NodeClient,
  parent: messages.Machine,
): Promise<{ pauseMs: number; waitedMs: number; readyMs: number }> {
  await using visits = visitor(parent.ports[0]?.host ?? 0);
  let waitedMs = Number.NaN;
  let forked: messages.Forked | undefined;
  let child: messages.Machine | undefined;
  for await (const { event } of node.fork({ machine: parent.id, ports: [{ guest: guestPort }] })) {
    if (event.case === "forked") {
      forked = event.value;
      waitedMs = await visits.longest();
    }
    if (event.case === "ready") child = event.value;
  }
  if (forked === undefined || child === undefined) throw new Error("spored reported no child");
  await visit(child.ports[0]?.host ?? 0);
  await node.removeMachine({ machine: child.id, force: true });
  await node.removeSnapshot({ snapshot: forked.digest });
  return { pauseMs: forked.pauseMs, waitedMs, readyMs: child.timings?.readyMs ?? Number.NaN };
}

/** Somebody who asks again and again, one request at a time. */
function visitor(port: number): AsyncDisposable & { longest(): Promise<number> } {
  let asking = true;
  let longestMs = 0;
  const asked = (async () => {
    while (asking) {
      const start = performance.now();
      await visit(port);
      longestMs = Math.max(longestMs, performance.now() - start);
    }
  })();
  asked.catch(() => {}); // Told by who waits for it.
  const stop = async () => {
    asking = false;
    await asked;
  };
  return {
    async longest() {
      await stop();
      return longestMs;
    },
    [Symbol.asyncDispose]: stop,
  };
}
