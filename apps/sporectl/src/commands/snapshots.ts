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

const lsSignature = { args: {}, options: { quiet: flag("-q, --quiet", "only digests") } };
export type SnapshotLsSignature = typeof lsSignature;

export const snapshotLs = defineCommand({
  name: "snapshot ls",
  summary: "List snapshots",
  description: "MEMORY and DISK are the bytes that are not zero; the files are sparse.",
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
  options: { force: flag("-f, --force", "even if machines were started from it: they go on running") },
};
export type SnapshotRmSignature = typeof rmSignature;

export const snapshotRm = defineCommand({
  name: "snapshot rm",
  summary: "Remove names of snapshots, and the files of those without a name",
  description: "A digest instead of a name removes the snapshot with all its names.",
  signature: rmSignature,
  examples: [["sporectl snapshot rm hello:old", "Remove one"]],
  json: true,
  load: () => import("../actions/snapshot-rm.ts"),
});
