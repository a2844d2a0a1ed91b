import { anyNumber, oneOrMore } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, list, negatable, value } from "../cli/options.ts";
import { parseDuration } from "../cli/parse.ts";

const machines = oneOrMore("MACHINE", "name, id, or beginning of an id", "machines");

const psSignature = {
  args: {},
  options: {
    all: flag("-a, --all", "also machines that are stopped or failed"),
    quiet: flag("-q, --quiet", "only ids"),
  },
};
export type PsSignature = typeof psSignature;

export const ps = defineCommand({
  name: "ps",
  summary: "List machines",
  description: "READY is the time from the request to ready, as it was measured at the machine's start.",
  signature: psSignature,
  examples: [
    ["sporectl ps", "Machines that run, are paused or suspended"],
    ["sporectl rm -f $(sporectl ps -aq)", "Remove all machines"],
  ],
  json: true,
  load: () => import("../actions/ps.ts"),
});

const severalSignature = { args: { machines }, options: {} };
export type SeveralSignature = typeof severalSignature;

export const inspect = defineCommand({
  name: "inspect",
  summary: "Show all that is known about machines",
  description: "--json prints one machine as an object, several as a list in the order of the arguments.",
  signature: severalSignature,
  examples: [["sporectl inspect hello-1 --json | jq -r .machineId", "One field, for a script"]],
  json: true,
  load: () => import("../actions/inspect.ts"),
});

export const pause = defineCommand({
  name: "pause",
  summary: "Stop the time of machines",
  description: "Their memory stays; published ports accept connections that are answered after unpause.",
  signature: severalSignature,
  examples: [["sporectl pause hello-1 hello-2", "Pause two machines"]],
  load: () => import("../actions/pause.ts"),
});

export const unpause = defineCommand({
  name: "unpause",
  summary: "Let paused machines go on",
  description: "The guest's clock is set to the host's.",
  signature: severalSignature,
  examples: [["sporectl unpause hello-1", "Go on"]],
  load: () => import("../actions/unpause.ts"),
});

export const suspend = defineCommand({
  name: "suspend",
  summary: "Put machines on disk, where they cost no memory",
  description: `The whole machine becomes files: its memory, as far as it differs from its snapshot, its devices and
its disk; its process ends. Name, identity and published ports stay its own. Commands that sporectl exec runs in it
end, and so do connections to it; what runs in the guest by itself goes on after wake, exec or cp.`,
  signature: severalSignature,
  examples: [["sporectl suspend hello-1 hello-2", "Suspend two machines"]],
  load: () => import("../actions/suspend.ts"),
});

const wakeSignature = {
  args: { machines },
  options: {
    env: list(
      "-e, --env <name[=value]>",
      "give the guest a variable anew: those that it had are lost when the host is booted",
      String,
    ),
    envFile: list(
      "--env-file <file>",
      "read such variables from a file, one NAME=VALUE per line",
      String,
      "files",
    ),
  },
};
export type WakeSignature = typeof wakeSignature;

export const wake = defineCommand({
  name: "wake",
  summary: "Let suspended machines go on",
  description: `Each is the machine that it was, with the time of now, fresh randomness and a new generation id. Machines
that run stay as they are. One that cannot be woken stays suspended.`,
  signature: wakeSignature,
  examples: [["sporectl wake hello-1", "Go on"]],
  load: () => import("../actions/wake.ts"),
});

const stopSignature = {
  args: { machines },
  options: {
    time: value(
      "-t, --time <duration>",
      "wait this long for an orderly end; 0 ends it at once (default: 10s)",
      parseDuration,
      10_000,
    ),
  },
};
export type StopSignature = typeof stopSignature;

export const stop = defineCommand({
  name: "stop",
  summary: "Stop machines",
  description:
    "The guest shuts down in order; when the time is over its VMM is ended. Its disk stays until rm. The state of a suspended machine is given up.",
  signature: stopSignature,
  examples: [
    ["sporectl stop hello-1", "Stop in order"],
    ["sporectl stop -t 0 hello-1", "Stop at once"],
  ],
  load: () => import("../actions/stop.ts"),
});

const rmSignature = {
  args: { machines },
  options: {
    force: flag(
      "-f, --force",
      "also a machine that runs or is suspended; no error for one that does not exist",
    ),
  },
};
export type RmSignature = typeof rmSignature;

export const rm = defineCommand({
  name: "rm",
  summary: "Remove machines and their disks",
  description: "Snapshots made of them stay.",
  signature: rmSignature,
  examples: [["sporectl rm -f hello-1", "Remove it, running or not"]],
  load: () => import("../actions/rm.ts"),
});

const statsSignature = {
  args: { machines: anyNumber("MACHINE", "name, id, or beginning of an id (default: all)", "machines") },
  options: {
    stream: negatable("--no-stream", "show one sample and end"),
    interval: value("--interval <duration>", "time between samples (default: 1s)", parseDuration, 1000),
  },
};
export type StatsSignature = typeof statsSignature;

export const stats = defineCommand({
  name: "stats",
  summary: "Show what machines use",
  description: `CPU is the VMM's share of one core. RSS counts shared pages in full, PSS divides them among those who map
them, PRIVATE is what the clone alone occupies. On a terminal the table is redrawn in place until Ctrl-C;
--json prints one document per line.`,
  signature: statsSignature,
  examples: [
    ["sporectl stats", "Watch all machines"],
    ["sporectl stats --no-stream hello-1", "One sample of one machine"],
  ],
  json: true,
  load: () => import("../actions/stats.ts"),
});
