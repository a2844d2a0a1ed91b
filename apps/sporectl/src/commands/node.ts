import { defineCommand } from "../cli/command.ts";
import { flag, value } from "../cli/options.ts";
import { parseDuration } from "../cli/parse.ts";

const startSignature = {
  args: {},
  options: {
    idleExit: value(
      "--idle-exit <duration>",
      "end it after this time without machines and calls; 0: never (default: 0)",
      parseDuration,
      0,
    ),
  },
};
export type NodeStartSignature = typeof startSignature;

export const nodeStart = defineCommand({
  name: "node start",
  summary: "Start spored in the background",
  description: `Rarely needed: every command starts one for the current user when none runs, which ends itself when it
has had nothing to do for a while. One started by this command stays.`,
  signature: startSignature,
  examples: [["sporectl node start", "Start it, and keep it"]],
  json: true,
  load: () => import("../actions/node-start.ts"),
});

const stopSignature = {
  args: {},
  options: { machines: flag("--machines", "stop all machines too; otherwise they go on running") },
};
export type NodeStopSignature = typeof stopSignature;

export const nodeStop = defineCommand({
  name: "node stop",
  summary: "End spored",
  description: "Machines go on running, and the next spored takes them over.",
  signature: stopSignature,
  examples: [["sporectl node stop --machines", "End everything"]],
  load: () => import("../actions/node-stop.ts"),
});

const statusSignature = { args: {}, options: {} };
export type NodeStatusSignature = typeof statusSignature;

export const nodeStatus = defineCommand({
  name: "node status",
  summary: "Tell whether spored runs",
  description: "Starts nothing. Exit code 13 when it does not run.",
  signature: statusSignature,
  examples: [["sporectl node status --json", "For a script"]],
  json: true,
  load: () => import("../actions/node-status.ts"),
});

const metricsSignature = { args: {}, options: {} };
export type NodeMetricsSignature = typeof metricsSignature;

export const nodeMetrics = defineCommand({
  name: "node metrics",
  summary: "Print what spored measures, for Prometheus",
  description: `Histograms of how long each stage of a machine's start took since spored began (stages as in inspect;
ready is all of it), and gauges of machines, slots and memory, in Prometheus's text format. Starts nothing.`,
  signature: metricsSignature,
  examples: [
    [
      "sporectl node metrics > /var/lib/node_exporter/sporelet.prom",
      "For node_exporter's textfile collector",
    ],
  ],
  load: () => import("../actions/node-metrics.ts"),
});
