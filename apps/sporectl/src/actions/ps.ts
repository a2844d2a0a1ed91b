import type { Action } from "../cli/command.ts";
import type { PsSignature } from "../commands/machines.ts";
import { machineDocument } from "../output/documents.ts";
import { listColumns } from "../output/machines.ts";
import { table } from "../output/table.ts";

const over = new Set(["stopped", "failed"]);

export const action: Action<PsSignature> = async (context, _args, { all }) => {
  const node = await context.node();
  const response = await node.listMachines({}, { signal: context.signal });
  const machines = response.machines.filter((machine) => all || !over.has(machine.state));
  if (context.json) context.printJson(machines.map(machineDocument));
  else if (context.quiet) context.print(...machines.map((machine) => machine.id));
  else context.print(...table(listColumns(context.io.now(), context.style), machines, context.style.bold));
  return 0;
};
