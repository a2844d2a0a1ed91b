import type { CommandGroup } from "../cli/command.ts";
import { cacheDu, cacheGc, cacheLs, cacheRm } from "./cache.ts";
import { exec } from "./exec.ts";
import { cp, logs } from "./files.ts";
import { fork } from "./fork.ts";
import { build, doctor } from "./host.ts";
import { login, logout } from "./login.ts";
import { inspect, pause, ps, rm, stats, stop, suspend, unpause, wake } from "./machines.ts";
import { nodeMetrics, nodeStart, nodeStatus, nodeStop } from "./node.ts";
import { complete, completion, version } from "./other.ts";
import { exportCommand, pull, push } from "./registry.ts";
import { boot, run } from "./run.ts";
import {
  snapshotCreate,
  snapshotDiff,
  snapshotHistory,
  snapshotInspect,
  snapshotLs,
  snapshotRm,
  snapshotTag,
  snapshotVerify,
} from "./snapshots.ts";
import { cacheWarm, warm } from "./warm.ts";

/** Every command there is: the help, the reference in docs/cli and the completion are made from this table. */
export const groups: readonly CommandGroup[] = [
  { title: "Build and run", commands: [doctor, build, run, boot, warm] },
  {
    title: "Machines",
    commands: [ps, inspect, exec, cp, logs, stats, fork, pause, unpause, suspend, wake, stop, rm],
  },
  {
    title: "Snapshots",
    commands: [
      snapshotCreate,
      snapshotDiff,
      snapshotLs,
      snapshotInspect,
      snapshotVerify,
      snapshotHistory,
      snapshotTag,
      snapshotRm,
    ],
  },
  { title: "Registries", commands: [push, pull, exportCommand, login, logout] },
  { title: "Space", commands: [cacheLs, cacheDu, cacheGc, cacheRm, cacheWarm] },
  {
    title: "Sporelet itself",
    commands: [nodeStart, nodeStop, nodeStatus, nodeMetrics, completion, version, complete],
  },
];

/** One line for each first word that several commands share. */
export const families: Readonly<Record<string, string>> = {
  snapshot: "Make, list, check, name and remove snapshots",
  cache: "Show, free and warm what the store holds",
  node: "Control spored, the daemon that owns machines and snapshots",
};
