import type { Action } from "../cli/command.ts";
import { usageError } from "../cli/usage.ts";
import type { ExecSignature } from "../commands/exec.ts";
import { checkTerminal, environmentOf } from "../exec/environment.ts";
import { runExec } from "../exec/session.ts";

export const action: Action<ExecSignature> = async (context, { machine, command }, options) => {
  const argv = command[0] === "--" ? command.slice(1) : command;
  if (argv.length === 0) throw usageError(context.command, "CMD is missing");
  checkTerminal(context, options);
  const env = environmentOf(context, options.env, options.envFile);
  const node = await context.node();
  return await runExec(context, node, {
    machine,
    argv,
    env,
    workingDirectory: options.workdir ?? "",
    user: options.user ?? "",
    interactive: options.interactive,
    tty: options.tty,
  });
};
