import { anyNumber, one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, list, text, value } from "../cli/options.ts";
import { integer, oneOf, parseDuration, parsePort } from "../cli/parse.ts";
import { limitOptions } from "./limit-options.ts";
import { registryOptions } from "./registry-options.ts";

/** How machines are started, whatever they are started from. */
export const machineOptions = {
  name: text("--name <name>", "name of the machine; with -n, NAME-1, NAME-2, …"),
  publish: list(
    "-p, --publish <[host:]guest>",
    "publish a guest's port on 127.0.0.1; without a host port any free one",
    parsePort,
  ),
  publishAll: flag("-P, --publish-all", "publish all ports of the snapshot on free host ports"),
  env: list(
    "-e, --env <name[=value]>",
    "set an environment variable for the guest; without a value your own is passed on",
    String,
  ),
  envFile: list(
    "--env-file <file>",
    "read environment variables from a file, one NAME=VALUE per line",
    String,
    "files",
  ),
  rm: flag("--rm", "remove the machine when it stops; with CMD, when CMD ends"),
};

const runSignature = {
  args: {
    snapshot: one(
      "NAME[:TAG]",
      "snapshot to resume: a name here, a digest's first 12 digits, or REGISTRY/REPOSITORY:TAG",
      "snapshots",
    ),
    command: anyNumber("CMD", "command to run in the clone"),
  },
  options: {
    ...machineOptions,
    count: value(
      "-n, --count <number>",
      "how many clones (default: 1)",
      integer(1, 10_000, "a number of clones"),
      1,
    ),
    timeout: value(
      "--timeout <duration>",
      "limit for becoming ready (default: 30s; more for what has to be fetched or booted first)",
      parseDuration,
      0,
    ),
    fetch: value(
      "--fetch <how>",
      "of a snapshot that is not here: lazy (start while its pages arrive) or eager (default: lazy)",
      oneOf(["lazy", "eager"]),
      "" as "" | "lazy" | "eager",
      ["lazy", "eager"],
    ),
    wakeOnConnect: flag(
      "--wake-on-connect",
      "keep published ports open while the clone is suspended: a connection wakes it",
    ),
    idleSuspend: value(
      "--idle-suspend <duration>",
      "suspend the clone when nothing has happened for so long",
      parseDuration,
      0,
    ),
    ...limitOptions,
    ...registryOptions,
    interactive: flag("-i, --interactive", "pass standard input on to CMD"),
    tty: flag("-t, --tty", "give CMD a terminal"),
    workdir: text("-w, --workdir <dir>", "working directory of CMD"),
    user: text("-u, --user <user[:group]>", "user that CMD runs as"),
  },
};
export type RunSignature = typeof runSignature;

export const run = defineCommand({
  name: "run",
  summary: "Resume clones of a snapshot",
  description: `Each clone has its own disk, memory, network and identity, and goes on where the snapshot was frozen.
Prints name, id, published ports and the time to ready of each; when one of several fails, none is left.

A name that says a registry and is not here is fetched. The clone starts as soon as what a resume touches has
come, and the rest arrives while it runs; --fetch eager waits for all of it.

With CMD it is run in the clone once that is ready, and its exit code is that of sporectl. With -n its lines
are shown after the clone's name, and the highest exit code counts. The clone goes on running after CMD,
unless --rm is given. Put -- before a CMD that has options.

A clone that takes more memory than its --memory-limit is ended by the kernel, and says so; the limit counts what
its VMM takes itself, some 25 MiB, as well. --ksm merges equal memory of clones that trust each other: from the
time that a write takes, one could learn what another's memory holds.

With -n, a host port is for the first clone and is counted up by one for each further clone. Ctrl-C cancels
the call and removes what it had begun.

--json prints a list with, for each clone, its id, name, pid, ports ({host, guest, address}), readyMs, and
stages (slot, load, agent, ready) in milliseconds.`,
  signature: runSignature,
  examples: [
    ["sporectl run hello -p 8080", "Resume one clone, its port 8080 on a free port of 127.0.0.1"],
    ["sporectl run hello -n 3 -p 9000:8080", "Three clones, on ports 9000, 9001 and 9002"],
    ["sporectl run --rm hello -- docker ps", "Run a command in a fresh clone and throw the clone away"],
    ["sporectl run registry.example/team/hello:v1", "Resume a snapshot straight from a registry"],
    ["sporectl run --rm -it hello -- sh", "A shell in a fresh clone"],
    [
      "sporectl run hello -p 8080 --wake-on-connect --idle-suspend 30s",
      "A clone that costs nothing while nobody asks it anything",
    ],
    [
      "sporectl run hello --cpu-limit 0.5 --memory-limit 512MiB --io-limit 20MiB",
      "A clone that cannot take the host for itself",
    ],
  ],
  json: true,
  load: () => import("../actions/run.ts"),
});

const bootSignature = {
  args: { snapshot: one("NAME[:TAG]", "snapshot whose machine to boot", "snapshots") },
  options: {
    ...machineOptions,
    timeout: value("--timeout <duration>", "limit for becoming ready (default: 5m)", parseDuration, 0),
  },
};
export type BootSignature = typeof bootSignature;

export const boot = defineCommand({
  name: "boot",
  summary: "Start the machine of a snapshot cold",
  description: `The same kernel and disk are booted instead of resumed: for comparison, and as the fallback where
machine state cannot be restored. Ready means that every service is up. The output is that of run.`,
  signature: bootSignature,
  examples: [["sporectl boot hello -p 8080", "Boot it and publish port 8080"]],
  json: true,
  load: () => import("../actions/boot.ts"),
});
