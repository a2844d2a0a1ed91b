import { create } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { createBuilds } from "./build.ts";
import { cacheUsage, collectCache, listCache, removeCache } from "./cache.ts";
import { pause, remove, stop, unpause } from "./control.ts";
import { exportSnapshot } from "./distribution/export.ts";
import { pull } from "./distribution/pull.ts";
import { push } from "./distribution/push.ts";
import { doctor } from "./doctor.ts";
import { exec } from "./exec.ts";
import { readTar, statFile, writeTar } from "./files.ts";
import { fork } from "./fork.ts";
import { destroy } from "./lifecycle.ts";
import { logs } from "./logs.ts";
import { machineMessage, snapshotMessage } from "./messages.ts";
import type { Node } from "./node.ts";
import { boot, run } from "./runs.ts";
import { connectionOf } from "./server.ts";
import type { Settling } from "./settling.ts";
import { keepSlots, listSlots, warmCache } from "./slots/service.ts";
import { createSnapshot } from "./snapshot.ts";
import { listSnapshots, removeSnapshot, snapshotHistory, tagSnapshot } from "./snapshots.ts";
import { stats } from "./stats.ts";
import { suspend } from "./suspend.ts";
import { version } from "./version.ts";
import { wake } from "./wake.ts";

export interface ServiceOptions {
  node: Node;
  settling: Settling;
  /** Ends spored. */
  end: (why: string) => void;
}

/** The node API: one line for each call, which says where it is served. */
export function nodeRoutes({ node, settling, end }: ServiceOptions): (router: ConnectRouter) => void {
  const empty = () => create(api.EmptySchema);
  return (router) =>
    router.service(api.NodeService, {
      version: () => ({ version, pid: process.pid, home: node.home }),
      async shutdownNode({ stopMachines }) {
        if (stopMachines)
          await Promise.all([...node.machines].map((each) => each.exclusive(() => destroy(node, each))));
        // After the answer was written: the end of spored ends the calls that still run.
        setImmediate(() => end("ShutdownNode"));
        return empty();
      },
      doctor: () => doctor(node),
      metrics: async () => ({ text: await node.metrics.text(node) }),
      async settle(_request, { values }) {
        const connection = values.get(connectionOf);
        await settling.settled(connection);
        const started = [...node.machines].filter(({ startedBy }) => startedBy?.deref() === connection);
        return { machines: connection ? started.map(({ id }) => id) : [] };
      },

      build: createBuilds(node),
      run: (request, context) => run(node, request, context),
      boot: (request, context) => boot(node, request, context),

      listMachines: () => ({ machines: [...node.machines].map(({ record }) => machineMessage(record)) }),
      inspectMachine: ({ machine }) => machineMessage(node.machines.find(machine, "inspect").record),
      pause: ({ machine }) => pause(node, machine),
      unpause: ({ machine }) => unpause(node, machine),
      suspend: ({ machine }, context) => suspend(node, machine, context.signal),
      wake: (request, context) => wake(node, request, context),
      stop: (request, context) => stop(node, request, context.signal),
      async removeMachine(request) {
        await remove(node, request);
        return empty();
      },
      stats: (request, context) => stats(node, request, context),

      exec: (requests, context) => exec(node, requests, context),
      readTar: (request, context) => readTar(node, request, context),
      async writeTar(requests, context) {
        await writeTar(node, requests, context);
        return empty();
      },
      statFile: (request, context) => statFile(node, request, context),
      logs: (request, context) => logs(node, request, context),

      createSnapshot: async (request, context) =>
        snapshotMessage(await createSnapshot(node, request, context)),
      listSnapshots: () => listSnapshots(node),
      inspectSnapshot: async ({ snapshot }) => snapshotMessage(await node.store.resolve(snapshot)),
      verifySnapshot: async ({ snapshot }, context) =>
        snapshotMessage(await node.store.verify(snapshot, context.signal), true),
      removeSnapshot: (request) => removeSnapshot(node, request),
      tagSnapshot: (request) => tagSnapshot(node, request),
      snapshotHistory: (request) => snapshotHistory(node, request),
      fork: (request, context) => fork(node, request, context),

      push: (request, context) => push(node, request, context),
      pull: (request, context) => pull(node, request, context),
      exportSnapshot: (request, context) => exportSnapshot(node, request, context),

      listCache: (_request, context) => listCache(node, context.signal),
      cacheUsage: (_request, context) => cacheUsage(node, context.signal),
      collectCache: (request, context) => collectCache(node, request, context.signal),
      removeCache: (request, context) => removeCache(node, request, context.signal),
      warmCache: (request, context) => warmCache(node, request, context.signal),

      keepSlots: (request, context) => keepSlots(node, request, context),
      listSlots: () => listSlots(node),
    });
}
