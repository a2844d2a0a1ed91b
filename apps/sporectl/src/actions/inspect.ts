import type { node } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { SeveralSignature } from "../commands/machines.ts";
import { machineDocument, millisecondsOf } from "../output/documents.ts";
import { humanBytes, humanMs, humanTime } from "../output/human.ts";
import { portsText, stateText } from "../output/machines.ts";
import type { Style } from "../output/style.ts";
import { pairs } from "../output/table.ts";
import { allSubjects, oneOrList } from "./several.ts";

export const action: Action<SeveralSignature> = async (context, { machines }) => {
  const node = await context.node();
  const found = await allSubjects(context, machines, (machine) =>
    node.inspectMachine({ machine }, { signal: context.signal }),
  );
  if (context.json) context.printJson(oneOrList(found.map(machineDocument)));
  else if (context.quiet) context.print(...found.map((machine) => machine.id));
  else
    for (const [i, machine] of found.entries())
      context.print(...(i > 0 ? [""] : []), ...lines(machine, context.io.now(), context.style));
  return 0;
};

function lines(machine: node.Machine, nowMs: number, style: Style): string[] {
  const { timings } = machine;
  const stages =
    timings &&
    ([
      ["plan", timings.planMs],
      ["slot", timings.slotMs],
      ["load", timings.loadMs],
      ["agent", timings.agentMs],
      ["ready", timings.readyStageMs],
    ] as const);
  const stagesText = stages?.map(([stage, ms]) => `${stage} ${humanMs(ms)}`).join(", ");
  return pairs(
    [
      ["name", style.bold(machine.name)],
      ["id", machine.id],
      [
        "state",
        machine.failure
          ? `${stateText(machine.state, style)}: ${machine.failure}`
          : stateText(machine.state, style),
      ],
      ["snapshot", machine.snapshot],
      ["digest", machine.snapshotDigest],
      ["origin", machine.origin],
      ["created", machine.created ? humanTime(millisecondsOf(machine.created), nowMs) : ""],
      ["ready in", timings ? `${humanMs(timings.readyMs)} (${stagesText})` : ""],
      ["prepared", timings?.fromPool ? "in a slot" : ""],
      ["ports", portsText(machine.ports)],
      ["vmm", [machine.vmm, machine.accelerator].filter((word) => word !== "").join(", ")],
      ["pid", machine.pid > 0 ? String(machine.pid) : ""],
      ["cpus", machine.cpus > 0 ? String(machine.cpus) : ""],
      ["memory", machine.memoryBytes > 0n ? humanBytes(machine.memoryBytes) : ""],
      [
        "disk",
        machine.diskBytes > 0n
          ? `${humanBytes(machine.diskBytes)}${machine.diskClone ? ` (${machine.diskClone})` : ""}`
          : "",
      ],
      ["limits", limitsText(machine.limits)],
      ["merged with", machine.ksm && `the trust domain ${machine.ksm}`],
      ["network", machine.netns ? `${machine.network} ${machine.netns}` : machine.network],
      ["hostname", machine.hostname],
      ["machine-id", machine.machineId],
      ["generation", machine.generationId],
      ["directory", machine.directory],
      ["on stop", machine.remove ? "removed" : ""],
      ["on connect", machine.wakeOnConnect ? "woken" : ""],
      ["when idle", machine.idleSuspendMs > 0 ? `suspended after ${humanMs(machine.idleSuspendMs)}` : ""],
    ],
    style.dim,
  );
}

/** `0.5 CPUs, 512 MiB of memory, 20 MiB/s of I/O`; empty without limits. */
function limitsText(limits: node.Limits | undefined): string {
  if (limits === undefined) return "";
  const { cpus, memoryBytes, ioBytesPerSecond } = limits;
  return [
    cpus > 0 ? `${cpus} CPUs` : "",
    memoryBytes > 0n ? `${humanBytes(memoryBytes)} of memory` : "",
    ioBytesPerSecond > 0n ? `${humanBytes(ioBytesPerSecond)}/s of I/O` : "",
  ]
    .filter((part) => part !== "")
    .join(", ");
}
