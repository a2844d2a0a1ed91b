import { parseSize } from "../cli/amounts.ts";
import { maybe, one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { value } from "../cli/options.ts";
import { integer } from "../cli/parse.ts";

const number = integer(0, 1000, "a number of slots");

const warmSignature = {
  args: { snapshot: maybe("NAME", "snapshot; without it, what is kept is listed", "snapshots") },
  options: {
    slots: value(
      "--slots <number>",
      "how many, or auto: as many as are asked for (default: auto); 0 ends it",
      (text) => (text === "auto" ? text : number(text)),
      "auto" as const,
    ),
    memory: value("--memory <size>", "limit for auto (default: a tenth of the host's memory)", parseSize, 0),
  },
};
export type WarmSignature = typeof warmSignature;

export const warm = defineCommand({
  name: "warm",
  summary: "Keep clones of a snapshot prepared, so that run takes them at once",
  description: `A slot has all that a clone needs but an identity: network, disk, and a VMM with the state loaded.
run takes slots while there are any, and prepares clones itself when there are none. New ones are prepared as soon
as nobody takes any for a moment.

With auto there are as many as were asked for in about the last minute, one while anybody asks within half an hour,
and none until the next run otherwise. When the host's memory
is short none are kept. They are kept until --slots 0, also over a restart of spored, which does not end for lack
of work meanwhile. When NAME is given to another snapshot, slots of that one are kept as soon as it is run.

Returns when the slots are ready. --json prints a list of objects with snapshot, snapshotDigest, wanted, ready,
automatic, privateBytes, and problem.`,
  signature: warmSignature,
  examples: [
    ["sporectl warm hello --slots 8", "Eight clones, ready to go"],
    ["sporectl warm hello", "As many as are asked for"],
    ["sporectl warm", "See what is kept"],
    ["sporectl warm hello --slots 0", "End it"],
  ],
  json: true,
  load: () => import("../actions/warm.ts"),
});

const cacheWarmSignature = { args: { snapshot: one("NAME", "snapshot", "snapshots") }, options: {} };
export type CacheWarmSignature = typeof cacheWarmSignature;

export const cacheWarm = defineCommand({
  name: "cache warm",
  summary: "Read a snapshot's pages into the host's memory",
  description: `The next resumes then wait for no disk. The host drops such pages again when it needs the memory. --json
prints an object with bytes.`,
  signature: cacheWarmSignature,
  examples: [["sporectl cache warm hello", "After a boot of the host"]],
  json: true,
  load: () => import("../actions/cache-warm.ts"),
});
