import { maybe, one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, value } from "../cli/options.ts";
import { integer } from "../cli/parse.ts";

const cpSignature = {
  args: {
    source: one("SRC", "MACHINE:PATH, a path on this host, or - for a tar on standard input", "paths"),
    target: one("DST", "MACHINE:PATH, a path on this host, or - for a tar on standard output", "paths"),
  },
  options: {
    archive: flag("-a, --archive", "keep owners and set-user-id bits"),
    followLink: flag("-L, --follow-link", "copy what SRC points to when it is a symbolic link"),
  },
};
export type CpSignature = typeof cpSignature;

export const cp = defineCommand({
  name: "cp",
  summary: "Copy files to or from a machine",
  description: `As docker cp: a directory is copied into an existing directory, or becomes DST where that does not exist;
SRC/. copies its contents; a DST that ends with / must be a directory. A path on this host that contains a
colon begins with ./ or /. Symbolic links are copied as links; -L follows SRC itself. What comes from a machine never lands
outside of DST.`,
  signature: cpSignature,
  examples: [
    ["sporectl cp -L hello-1:/etc/os-release .", "From a machine into this directory"],
    ["sporectl cp app/. hello-1:/srv/app", "The contents of a directory into a machine"],
    ["sporectl cp hello-1:/var/log - | tar tv", "As a tar stream"],
  ],
  load: () => import("../actions/cp.ts"),
});

const logsSignature = {
  args: {
    machine: one("MACHINE", "name, id, or beginning of an id", "machines"),
    source: maybe(
      "SOURCE",
      "console, agent, vmm, or a service of the Compose project (default: console)",
      "sources",
    ),
  },
  options: {
    follow: flag("-f, --follow", "go on with what is logged from now on"),
    tail: value("--tail <lines>", "only the last lines", integer(1, 0xffffffff, "a number of lines"), 0),
  },
};
export type LogsSignature = typeof logsSignature;

export const logs = defineCommand({
  name: "logs",
  summary: "Show what a machine or a service in it logged",
  description: `The console is what the guest's kernel and init wrote, agent is Sporelet's part inside the guest, vmm is
the process that runs it on this host.`,
  signature: logsSignature,
  examples: [
    ["sporectl logs hello-1", "The console"],
    ["sporectl logs -f --tail 20 hello-1 api", "Follow a Compose service"],
  ],
  load: () => import("../actions/logs.ts"),
});
