import { one, oneOrMore } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, text } from "../cli/options.ts";

const snapshots = oneOrMore("NAME[:TAG]", "name, or the first 12 digits of a digest", "snapshots");

const createSignature = {
  args: { machine: one("MACHINE", "machine to freeze; it goes on running", "machines") },
  options: {
    tag: text("-t, --tag <name[:tag]>", "name of the snapshot", "snapshots"),
    force: flag("-f, --force", "move the name from the snapshot that has it"),
  },
};
export type SnapshotCreateSignature = typeof createSignature;

export const snapshotCreate = defineCommand({
  name: "snapshot create",
  summary: "Freeze a machine as a snapshot",
  description: "Prints the digest. The machine is paused for the time that is shown, and goes on.",
  signature: createSignature,
  examples: [["sporectl snapshot create hello-1 -t hello:seeded", "Keep the state that this clone reached"]],
  json: true,
  load: () => import("../actions/snapshot-create.ts"),
});

const diffSignature = {
  args: { machine: one("MACHINE", "clone to freeze; it goes on running", "machines") },
  options: createSignature.options,
};
export type SnapshotDiffSignature = typeof diffSignature;

export const snapshotDiff = defineCommand({
  name: "snapshot diff",
  summary: "Freeze a clone as a difference to its snapshot",
  description: `Like snapshot create, for machines that were resumed: stores the pages of memory and disk that differ
from the snapshot that the machine came from, and says how much that is. The machine is paused for a time that
follows from what it changed, not from its size. Clones of clones can be frozen in their turn, as deep as you like:
each layer costs what it changed, and a resume takes the same time from all of them.

A machine that was booted has no snapshot that its memory could differ from, and is refused.`,
  signature: diffSignature,
  examples: [["sporectl snapshot diff hello-1 -t hello:seeded", "Keep what this clone added to hello"]],
  json: true,
  load: () => import("../actions/snapshot-diff.ts"),
});

const lsSignature = { args: {}, options: { quiet: flag("-q, --quiet", "only digests") } };
export type SnapshotLsSignature = typeof lsSignature;

export const snapshotLs = defineCommand({
  name: "snapshot ls",
  summary: "List snapshots",
  description: `MEMORY and DISK are the bytes that are not zero; the files are sparse. ADDED is what of both together is not
the same in the parent. What a snapshot takes on the disk is shown by cache ls.`,
  signature: lsSignature,
  examples: [["sporectl snapshot ls", "All snapshots of this host"]],
  json: true,
  load: () => import("../actions/snapshot-ls.ts"),
});

const severalSignature = { args: { snapshots }, options: {} };
export type SnapshotSeveralSignature = typeof severalSignature;

export const snapshotInspect = defineCommand({
  name: "snapshot inspect",
  summary: "Show all that is known about snapshots",
  description:
    "--json prints one snapshot as an object, several as a list in the order of the arguments; config is the whole config.",
  signature: severalSignature,
  examples: [["sporectl snapshot inspect hello --json | jq .config.files", "The digests of its files"]],
  json: true,
  load: () => import("../actions/snapshot-inspect.ts"),
});

export const snapshotVerify = defineCommand({
  name: "snapshot verify",
  summary: "Check the files of snapshots against their digests",
  description: "Reads everything. A file that is cut short or altered is named, with exit code 9.",
  signature: severalSignature,
  examples: [["sporectl snapshot verify hello", "Check one snapshot"]],
  json: true,
  load: () => import("../actions/snapshot-verify.ts"),
});

const rmSignature = {
  args: { snapshots },
  options: {
    force: flag(
      "-f, --force",
      "even if machines were started from it, which go on, or snapshots were made from it, which stay whole",
    ),
    dryRun: flag("--dry-run", "only show what would be removed"),
  },
};
export type SnapshotRmSignature = typeof rmSignature;

export const snapshotRm = defineCommand({
  name: "snapshot rm",
  summary: "Remove names of snapshots, and the files of those without a name",
  description: `A digest instead of a name removes the snapshot with all its names. One that others were made from is kept,
unless forced: what they changed is stored as a difference to it in registries. Without it they are published
whole from then on.`,
  signature: rmSignature,
  examples: [["sporectl snapshot rm hello:old", "Remove one"]],
  json: true,
  load: () => import("../actions/snapshot-rm.ts"),
});

const historySignature = {
  args: { snapshot: one("NAME[:TAG]", "name, or the first 12 digits of a digest", "snapshots") },
  options: {},
};
export type SnapshotHistorySignature = typeof historySignature;

export const snapshotHistory = defineCommand({
  name: "snapshot history",
  summary: "Show what a snapshot was made from, layer by layer",
  description: `From the snapshot down to its base. MEMORY and DISK are the bytes in pages that a layer changed, PUBLISHED the
size of its own blobs in a registry, once that is known. A snapshot that was pulled is whole without its
ancestors: those are shown as not here.`,
  signature: historySignature,
  examples: [["sporectl snapshot history hello:seeded", "The layers below it"]],
  json: true,
  load: () => import("../actions/snapshot-history.ts"),
});

const tagSignature = {
  args: {
    snapshot: one("NAME[:TAG]", "name, or the first 12 digits of a digest", "snapshots"),
    tag: one("NEW[:TAG]", "its further name, REGISTRY/REPOSITORY:TAG among others"),
  },
  options: { force: flag("-f, --force", "move the name from the snapshot that has it") },
};
export type SnapshotTagSignature = typeof tagSignature;

export const snapshotTag = defineCommand({
  name: "snapshot tag",
  summary: "Give a snapshot one more name",
  description: "Prints the digest. Names are taken away by snapshot rm.",
  signature: tagSignature,
  examples: [
    ["sporectl snapshot tag hello hello:stable", "A name that stays when hello is built again"],
    ["sporectl snapshot tag hello registry.example/team/hello:v1", "So that push needs no target"],
  ],
  json: true,
  load: () => import("../actions/snapshot-tag.ts"),
});
