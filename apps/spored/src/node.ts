import type { Store } from "@sporelet/store";
import type { Vmm } from "@sporelet/vmm";
import type { Activity } from "./activity.ts";
import type { Lazy } from "./lazy/types.ts";
import type { Log } from "./log.ts";
import type { Machines } from "./machines.ts";
import type { Metrics } from "./metrics.ts";
import type { Networks } from "./network.ts";
import type { Probes } from "./probes.ts";
import type { Resources } from "./resources.ts";
import type { Slots } from "./slots/slots.ts";

/** What the parts of a running spored share. */
export interface Node extends NodeParts {
  lazy: Lazy;
  slots: Slots;
}

/** What has to be there before the rest. */
export interface NodeParts {
  home: string;
  /** Holds the sockets of spored and of the machines. */
  runtimeDirectory: string;
  store: Store;
  vmm: Vmm;
  probes: Probes;
  networks: Networks;
  resources: Resources;
  machines: Machines;
  activity: Activity;
  metrics: Metrics;
  log: Log;
  /** Starts of machines that go on at the same time; see `startsAtOnce`. */
  starts: <T>(task: () => Promise<T>) => Promise<T>;
  /** Aborted when spored is told to end. */
  shutdown: AbortSignal;
}
