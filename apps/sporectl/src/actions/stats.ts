import type { node } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { Context } from "../cli/context.ts";
import { usageError } from "../cli/usage.ts";
import type { StatsSignature } from "../commands/machines.ts";
import { statsDocument } from "../output/documents.ts";
import { humanBytes } from "../output/human.ts";
import { createPainter } from "../output/painter.ts";
import { displayWidth, truncate } from "../output/style.ts";
import { type Column, table } from "../output/table.ts";

export const action: Action<StatsSignature> = async (context, { machines }, { stream, interval }) => {
  if (stream && interval < 100)
    throw usageError(
      context.command,
      "--interval is too short",
      "the shortest is 100ms; --no-stream shows one sample",
    );
  const node = await context.node();
  const live = stream && !context.json && context.io.stdout.isTTY === true && context.io.env.TERM !== "dumb";
  using painter = live ? createPainter(context.io.stdout) : undefined;
  const samples = node.stats({ machines, intervalMs: stream ? interval : 0 }, { signal: context.signal });
  try {
    for await (const sample of samples) {
      if (context.json) context.printJson(sample.machines.map(statsDocument), stream ? "line" : "document");
      else if (painter !== undefined)
        painter.paint(fitting(sampleLines(context, sample), context.io.stdout.columns ?? 80));
      else context.print(...sampleLines(context, sample));
      // One sample was asked for, whatever else is sent.
      if (!stream) break;
    }
  } catch (error) {
    // Ctrl-C is how one stops watching: not a failure.
    if (!(stream && context.signal.aborted)) throw error;
  }
  return 0;
};

function fitting(lines: readonly string[], columns: number): string[] {
  return lines.map((line) => (displayWidth(line) <= columns ? line : truncate(line, columns)));
}

function sampleLines(context: Context, sample: node.StatsResponse): string[] {
  return table(columns, sample.machines, context.style.bold);
}

const columns: Column<node.MachineStats>[] = [
  { title: "NAME", cell: ({ name }) => name },
  { title: "STATE", cell: ({ state }) => state },
  {
    title: "CPU",
    align: "right",
    cell: ({ cpuShare }) => (cpuShare < 0 ? "-" : `${(cpuShare * 100).toFixed(1)} %`),
  },
  { title: "RSS", align: "right", cell: ({ rssBytes }) => humanBytes(rssBytes) },
  { title: "PSS", align: "right", cell: ({ pssBytes }) => humanBytes(pssBytes) },
  { title: "PRIVATE", align: "right", cell: ({ privateBytes }) => humanBytes(privateBytes) },
  {
    title: "DISK",
    align: "right",
    cell: ({ diskBytes }) => (diskBytes === 0n ? "-" : humanBytes(diskBytes)),
  },
  {
    title: "GUEST MEMORY",
    align: "right",
    cell: ({ guestMemoryTotalBytes: total, guestMemoryAvailableBytes: available }) =>
      total === 0n ? "-" : `${humanBytes(total - available)} / ${humanBytes(total)}`,
  },
  {
    title: "LOAD",
    align: "right",
    cell: ({ guestLoad1, guestMemoryTotalBytes }) =>
      guestMemoryTotalBytes === 0n ? "-" : guestLoad1.toFixed(2),
  },
];
