import { one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, negatable, text, value } from "../cli/options.ts";
import { oneOf, parseDuration } from "../cli/parse.ts";

const doctorSignature = {
  args: {},
  options: { strict: flag("--strict", "end with exit code 11 when something is missing") },
};
export type DoctorSignature = typeof doctorSignature;

export const doctor = defineCommand({
  name: "doctor",
  summary: "Show what this host can do, and what would mend what it cannot",
  description: `Checks the accelerator (by running a guest), the VMMs found and their versions, reflinks, taps and
network namespaces, KSM, huge pages, the cgroup version and the free space. Each finding is ok, degraded
(it works, slower or with less) or missing (something will not work), with the command that mends it.`,
  signature: doctorSignature,
  examples: [
    ["sporectl doctor", "Look at this host"],
    [
      "sporectl doctor --json | jq -r '.checks[] | select(.status != \"ok\") | .remedy'",
      "What to do, for a script",
    ],
  ],
  json: true,
  load: () => import("../actions/doctor.ts"),
});

const buildSignature = {
  args: {
    path: one("PATH", "directory or file of a Compose project, or a directory with a sporelet.yaml", "paths"),
  },
  options: {
    tag: text("-t, --tag <name[:tag]>", "name of the snapshot (default: the directory's name)", "snapshots"),
    layer: value(
      "--layer <number>",
      "stop after this layer: 0 (kernel and init) or 1 (default: 1)",
      (given) => Number(oneOf(["0", "1"])(given)),
      1,
      ["0", "1"],
    ),
    cache: negatable("--no-cache", "rebuild everything"),
    timeout: value("--timeout <duration>", "limit for the whole build (default: 15m)", parseDuration, 0),
    progress: value(
      "--progress <form>",
      "auto, tty, or plain: one line per event with all logs (default: auto)",
      oneOf(["auto", "tty", "plain"]),
      "auto" as "auto" | "tty" | "plain",
      ["auto", "tty", "plain"],
    ),
  },
};
export type BuildSignature = typeof buildSignature;

export const build = defineCommand({
  name: "build",
  summary: "Build a snapshot from a Compose project",
  description: `Boots a microVM, brings the project up in it, waits until every container runs, every healthcheck is
healthy and every warm-up has answered, and freezes the machine. What is built is cached by content: a
second build with the same inputs is quick, and a changed Compose file redoes only the steps after it.

PATH is a Compose file, a directory with one, or a directory with a sporelet.yaml, which sets the machine's
size, where images come from, warm-ups, hooks and ports. Ctrl-C ends the build and removes what it had begun.`,
  signature: buildSignature,
  examples: [
    ["sporectl build examples/hello-compose -t hello", "Build and name it hello:latest"],
    ["sporectl build . -t base:1 --layer 0", "Only kernel and init"],
    ["sporectl build . -t hello -q", "Print the digest alone"],
  ],
  json: true,
  load: () => import("../actions/build.ts"),
});
