import type { node as api } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { Context } from "../cli/context.ts";
import type { WarmSignature } from "../commands/warm.ts";
import { humanBytes, shortDigest } from "../output/human.ts";
import { type Column, table } from "../output/table.ts";
import { registryRequest } from "./registry-options.ts";

export const action: Action<WarmSignature> = async (context, { snapshot }, { slots, memory }) => {
  const node = await context.node();
  const { signal } = context;
  if (snapshot === undefined) {
    print(context, (await node.listSlots({}, { signal })).pools);
    return 0;
  }
  const registry = registryRequest(context, { plainHttp: false, caFile: undefined });
  const wanted = slots === "auto" ? { automatic: true, memoryBytes: BigInt(memory) } : { slots };
  const pool = await node.keepSlots({ snapshot, registry, ...wanted }, { signal });
  if (slots === 0 && !context.json) return 0;
  print(context, [pool]);
  return pool.ready < pool.wanted ? 1 : 0;
};

function print(context: Context, pools: readonly api.SlotPool[]): void {
  if (context.json) context.printJson(pools.map(poolDocument));
  else if (context.quiet) context.print(...pools.map(({ snapshot }) => snapshot));
  else context.print(...table(columns, pools, context.style.bold));
}

const columns: Column<api.SlotPool>[] = [
  { title: "SNAPSHOT", cell: ({ snapshot }) => snapshot },
  { title: "DIGEST", cell: ({ snapshotDigest }) => shortDigest(snapshotDigest) },
  {
    title: "WANTED",
    align: "right",
    cell: ({ wanted, automatic }) => `${wanted}${automatic ? " (auto)" : ""}`,
  },
  { title: "READY", align: "right", cell: ({ ready }) => String(ready) },
  { title: "MEMORY", align: "right", cell: ({ privateBytes }) => humanBytes(privateBytes) },
  { title: "PROBLEM", cell: ({ problem }) => problem },
];

/** A pool as `--json` prints it. Field names are stable. */
function poolDocument({ snapshot, snapshotDigest, wanted, ready, automatic, ...rest }: api.SlotPool) {
  const { privateBytes, problem } = rest;
  return { snapshot, snapshotDigest, wanted, ready, automatic, privateBytes: Number(privateBytes), problem };
}
