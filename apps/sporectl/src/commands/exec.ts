import { one, oneOrMore } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, list, text } from "../cli/options.ts";

const execSignature = {
  args: {
    machine: one("MACHINE", "name, id, or beginning of an id", "machines"),
    command: oneOrMore("CMD", "command and its arguments"),
  },
  options: {
    interactive: flag("-i, --interactive", "pass standard input on"),
    tty: flag("-t, --tty", "give the command a terminal"),
    env: list(
      "-e, --env <name[=value]>",
      "set an environment variable; without a value your own is passed on",
      String,
    ),
    envFile: list(
      "--env-file <file>",
      "read environment variables from a file, one NAME=VALUE per line",
      String,
      "files",
    ),
    workdir: text("-w, --workdir <dir>", "working directory (default: /)"),
    user: text("-u, --user <user[:group]>", "user to run as (default: root)"),
  },
};
export type ExecSignature = typeof execSignature;

export const exec = defineCommand({
  name: "exec",
  summary: "Run a command in a machine",
  description: `Standard output, standard error and the exit code are those of the command; a command that a signal
ended counts as 128 + signal. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on; the third
SIGINT ends the call and with it the command. Options after MACHINE belong to the command.`,
  signature: execSignature,
  examples: [
    ["sporectl exec hello-1 uname -a", "Run a command"],
    ["sporectl exec -it hello-1 sh", "A shell"],
    ["sporectl exec -i hello-1 sh -c 'cat > /tmp/x' < x", "Send a file through standard input"],
  ],
  passThrough: true,
  load: () => import("../actions/exec.ts"),
});
