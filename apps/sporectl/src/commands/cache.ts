import { parseAge, parseSize } from "../cli/amounts.ts";
import { oneOrMore } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, value } from "../cli/options.ts";

const sizes = `Sizes are blocks on the disk. Copies share blocks until one of them is written to, and a block that several
things have is counted once: OWN is what would be free without a thing, TOTAL are all blocks that it has.`;

const plainSignature = { args: {}, options: {} };
export type CachePlainSignature = typeof plainSignature;

export const cacheLs = defineCommand({
  name: "cache ls",
  summary: "List what takes space, and why it stays",
  description: `Snapshots, results of build stages, blobs of registries, blobs of which a part has arrived (partial), and the
disks of machines. ${sizes}

KEPT BY says what needs it; what has nothing there goes with cache gc.`,
  signature: plainSignature,
  examples: [
    ["sporectl cache ls", "All of it"],
    [
      "sporectl cache ls --json | jq -r '.entries[] | select(.keptBy == []) | .id'",
      "What nothing needs, for a script",
    ],
  ],
  json: true,
  load: () => import("../actions/cache-ls.ts"),
});

export const cacheDu = defineCommand({
  name: "cache du",
  summary: "Show how much space is taken, and how much of that nothing needs",
  description: `SIZE counts each block of a kind once, and the total each block once: what kinds share makes the total
smaller than their sum. RECLAIMABLE is what removing all that nothing needs would free.`,
  signature: plainSignature,
  examples: [["sporectl cache du", "By kind"]],
  json: true,
  load: () => import("../actions/cache-du.ts"),
});

const gcSignature = {
  args: {},
  options: {
    dryRun: flag("--dry-run", "only show what would be removed"),
    maxAge: value(
      "--max-age <age>",
      "only what was not used for so long, for example 7d (default: any age)",
      parseAge,
      0,
    ),
    maxSize: value(
      "--max-size <size>",
      "only until the store takes no more than this, for example 20GiB (default: no limit)",
      parseSize,
      0,
    ),
  },
};
export type CacheGcSignature = typeof gcSignature;

export const cacheGc = defineCommand({
  name: "cache gc",
  summary: "Remove what nothing needs, the least recently used first",
  description: `First blobs of registries, then results of build stages, then snapshots without a name. What a machine, a
name, or a snapshot that stays needs is never removed, nor what a build, pull or push works with; a machine
needs its snapshot while it is stopped, too. Snapshots with a name are removed by snapshot rm.
Transfers that nobody went on with for a day are thrown away.

With --max-size it ends as soon as the store is small enough; with --max-age it takes only what is that old.`,
  signature: gcSignature,
  examples: [
    ["sporectl cache gc --dry-run", "See what would go"],
    ["sporectl cache gc --max-age 7d", "What was not used for a week"],
    ["sporectl cache gc --max-size 20GiB", "Just enough of it"],
  ],
  json: true,
  load: () => import("../actions/cache-gc.ts"),
});

const rmSignature = {
  args: { ids: oneOrMore("ID", "id in cache ls, or a unique beginning of one", "entries") },
  options: { dryRun: flag("--dry-run", "only show what would be removed") },
};
export type CacheRmSignature = typeof rmSignature;

export const cacheRm = defineCommand({
  name: "cache rm",
  summary: "Remove things from the store",
  description: `A snapshot goes with all its names. Refused, with nothing removed, when a machine, a snapshot that stays, or
work that goes on needs one of them.`,
  signature: rmSignature,
  examples: [["sporectl cache rm rootfs/3f2a91 a1b2c3d4e5f6", "A result of a build, and a snapshot"]],
  json: true,
  load: () => import("../actions/cache-rm.ts"),
});
