import { Gauge, Histogram, Registry } from "prom-client";
import type { Node } from "./node.ts";
import type { TimingsRecord } from "./record.ts";

/** What spored tells about itself, for Prometheus. */
export interface Metrics {
  /** A machine became ready. */
  started(origin: "resume" | "boot" | "wake", timings: TimingsRecord): void;
  /** A machine was suspended, which took so long from the request on. */
  suspended(tookMs: number): void;
  /** All of it in Prometheus's text format, version 0.0.4. */
  text(node: Node): Promise<string>;
}

/** Stages of a start in their order; `ready` is all of it. */
const stages = {
  plan: "planMs",
  slot: "slotMs",
  load: "loadMs",
  agent: "agentMs",
  ports: "readyStageMs",
  ready: "readyMs",
} as const;

/** What the guest did of stage `agent`, in its order. */
const guestStages = {
  clock: "clockMs",
  entropy: "entropyMs",
  identity: "identityMs",
  network: "networkMs",
  thaw: "thawMs",
  hooks: "hooksMs",
} as const;

/** Seconds: from what a stage takes at least to a cold boot of a large machine, by factors of 1.5 to 2.5. */
const buckets = [
  ...[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5],
  ...[1, 2.5, 5, 10, 30, 60, 120, 300],
];

/** Seconds: most of the guest's stages take some microseconds; hooks as long as they like. */
const guestBuckets = [
  ...[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1],
  ...[0.25, 0.5, 1, 2.5, 5, 10, 30],
];

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const stageSeconds = new Histogram({
    name: "sporelet_start_stage_seconds",
    help: "Time that a stage of a machine's start took; stage ready is all of it.",
    labelNames: ["origin", "stage", "slot"],
    buckets,
    registers,
  });
  const guestSeconds = new Histogram({
    name: "sporelet_guest_stage_seconds",
    help: "Time that the guest took, by its own account, for a stage of becoming unique.",
    labelNames: ["origin", "stage", "slot"],
    buckets: guestBuckets,
    registers,
  });
  const suspendSeconds = new Histogram({
    name: "sporelet_suspend_seconds",
    help: "Time from the request to suspend a machine to its end as files.",
    buckets,
    registers,
  });
  const machines = new Gauge({
    name: "sporelet_machines",
    help: "Machines by state.",
    labelNames: ["state"],
    registers,
  });
  const slots = new Gauge({
    name: "sporelet_slots",
    help: "Prepared clones by the name of their snapshot: wanted and ready.",
    labelNames: ["snapshot", "kind"],
    registers,
  });
  const residentBytes = new Gauge({
    name: "process_resident_memory_bytes",
    help: "Resident memory of spored itself.",
    registers,
  });
  return {
    started(origin, timings) {
      const slot = timings.fromPool ? "prepared" : "made";
      for (const [stage, field] of Object.entries(stages)) {
        stageSeconds.observe({ origin, stage, slot }, timings[field] / 1000);
      }
      const { guest } = timings;
      if (guest === undefined) return;
      for (const [stage, field] of Object.entries(guestStages)) {
        guestSeconds.observe({ origin, stage, slot }, guest[field] / 1000);
      }
    },
    suspended: (tookMs) => suspendSeconds.observe(tookMs / 1000),
    async text(node) {
      machines.reset();
      for (const { record } of node.machines) machines.inc({ state: record.state });
      slots.reset();
      for (const { reference: snapshot, wanted, ready } of node.slots.counts()) {
        slots.set({ snapshot, kind: "wanted" }, wanted);
        slots.set({ snapshot, kind: "ready" }, ready);
      }
      residentBytes.set(process.memoryUsage.rss());
      return await registry.metrics();
    },
  };
}
