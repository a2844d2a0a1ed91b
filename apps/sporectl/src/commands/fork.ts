import { one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, text, value } from "../cli/options.ts";
import { integer, parseDuration } from "../cli/parse.ts";
import { machineOptions } from "./run.ts";

const forkSignature = {
  args: { machine: one("MACHINE", "machine to fork; it goes on running", "machines") },
  options: {
    ...machineOptions,
    name: text("--name <name>", "name of the child; with -n, NAME-1, NAME-2, …"),
    count: value(
      "-n, --count <number>",
      "how many children (default: 1)",
      integer(1, 1000, "a number of children"),
      1,
    ),
    rm: flag("--rm", "remove a child when it stops"),
    timeout: value(
      "--timeout <duration>",
      "limit for all of it (default: 30s from the instant on)",
      parseDuration,
      0,
    ),
  },
};
export type ForkSignature = typeof forkSignature;

export const fork = defineCommand({
  name: "fork",
  summary: "Clone a running machine",
  description: `The machine stands still while its state is taken and then goes on. The children start from that
instant, with its memory, processes and disk, and each has a network and an identity of its own; the environment
that was given to the machine is not given to them. Prints the children as run does; when one of several fails,
none is left. How long the machine stood still is told on standard error.

Commands that sporectl exec runs in the machine at that instant end; what runs in the guest by itself goes on.

The instant is kept as a snapshot without a name for as long as a machine needs it. To keep it, give it a name by
its digest. --json prints an object with snapshot (its digest), pauseMs, and machines, a list like that of run.`,
  signature: forkSignature,
  examples: [
    ["sporectl fork hello-1", "One child of a running machine"],
    ["sporectl fork hello-1 -n 3 -p 9000:8080", "Three children, on ports 9000, 9001 and 9002"],
    ["sporectl fork agent --name attempt -n 5 --rm", "Five attempts from where an agent is now"],
  ],
  json: true,
  load: () => import("../actions/fork.ts"),
});
