import type { NodeClient, node } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { Context } from "../cli/context.ts";
import { usageError } from "../cli/usage.ts";
import { limitRequest } from "../commands/limit-options.ts";
import type { RunSignature } from "../commands/run.ts";
import { checkTerminal, environmentOf } from "../exec/environment.ts";
import { createPrefixer } from "../exec/prefix.ts";
import { type ExecOptions, runExec } from "../exec/session.ts";
import { cleanedUp, removed } from "./cleanup.ts";
import { registryRequest } from "./registry-options.ts";
import { portsOf, printStarted, startedMachines } from "./start-machines.ts";

export const action: Action<RunSignature> = async (context, args, options) => {
  const { snapshot, command } = args;
  const { count, interactive, tty } = options;
  if (command.length === 0 && (interactive || tty)) {
    throw usageError(
      context.command,
      "-i and -t are for a CMD",
      `for a shell: ${context.command} -it ${snapshot} -- sh`,
    );
  }
  if (command.length > 0 && context.json)
    throw usageError(context.command, "--json does not go with CMD, whose output is its own");
  if (count > 1 && (interactive || tty))
    throw usageError(
      context.command,
      "one standard input cannot be shared by several clones: -n does not go with -i and -t",
    );
  checkTerminal(context, options);
  const env = environmentOf(context, options.env, options.envFile);
  const node = await context.node();
  const ports = await portsOf(context, node, snapshot, options.publish, options.publishAll);
  const name = options.name ?? "";
  const request = {
    ...{ snapshot, name, count, ports, env, remove: options.rm, timeoutMs: options.timeout },
    ...{ fetch: options.fetch, registry: registryRequest(context, options) },
    ...{ wakeOnConnect: options.wakeOnConnect, idleSuspendMs: options.idleSuspend },
    ...limitRequest(options),
  };
  const events = node.run(request, { signal: context.signal });
  const title = count > 1 ? `resuming ${count} clones of ${snapshot}` : `resuming ${snapshot}`;
  const machines = await startedMachines(context, node, title, events);
  if (command.length === 0) {
    printStarted(context, machines);
    return 0;
  }
  const exec = {
    argv: command,
    // The guest knows the variables of this call already.
    env: {},
    workingDirectory: options.workdir ?? "",
    user: options.user ?? "",
    interactive,
    tty,
  };
  try {
    return machines.length === 1 && machines[0]
      ? await runExec(context, node, { machine: machines[0].id, ...exec })
      : await runInEach(context, node, machines, exec);
  } finally {
    if (options.rm) await removeAll(context, node, machines);
    else
      context.note(
        `${machines.map((machine) => machine.name).join(", ")} still run${machines.length === 1 ? "s" : ""}`,
      );
  }
};

/** All at once, each line after the name of its machine. @returns the highest exit code */
async function runInEach(
  context: Context,
  node: NodeClient,
  machines: readonly node.Machine[],
  exec: Omit<ExecOptions, "machine">,
): Promise<number> {
  const width = Math.max(...machines.map((machine) => machine.name.length));
  const runs = machines.map(async (machine) => {
    const head = `${machine.name.padEnd(width)} | `;
    const stdout = createPrefixer(context.io.stdout, context.style.cyan(head));
    const stderr = createPrefixer(context.io.stderr, context.errorStyle.cyan(head));
    try {
      return await runExec(context, node, {
        ...exec,
        machine: machine.id,
        onStdout: stdout.write,
        onStderr: stderr.write,
      });
    } finally {
      await stdout.end();
      await stderr.end();
    }
  });
  const settled = await Promise.allSettled(runs);
  const failure = settled.find((result) => result.status === "rejected");
  if (failure !== undefined) throw failure.reason;
  return Math.max(...settled.map((result) => (result.status === "fulfilled" ? result.value : 0)));
}

/** Also after Ctrl-C, whose signal is therefore not passed on. */
async function removeAll(
  context: Context,
  node: NodeClient,
  machines: readonly node.Machine[],
): Promise<void> {
  await cleanedUp(context, node);
  await Promise.all(machines.map((machine) => removed(node, machine.id)));
}
