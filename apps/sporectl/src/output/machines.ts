import type { node } from "@sporelet/api";
import { millisecondsOf } from "./documents.ts";
import { humanAge, humanMs, shortDigest } from "./human.ts";
import type { Style } from "./style.ts";
import type { Column } from "./table.ts";

/** `127.0.0.1:8080->80`, several separated by commas. */
export function portsText(ports: readonly node.PortMapping[]): string {
  return ports
    .map(({ host, guest, hostAddress }) => {
      const address = hostAddress || "127.0.0.1";
      return `${address.includes(":") ? `[${address}]` : address}:${host}->${guest}`;
    })
    .join(", ");
}

export function stateText(state: string, style: Style): string {
  if (state === "running") return style.green(state);
  if (state === "failed") return style.red(state);
  return state === "stopped" ? style.dim(state) : style.yellow(state);
}

/** What `run` and `boot` print. */
export const readyColumns: Column<node.Machine>[] = [
  { title: "NAME", cell: (machine) => machine.name },
  { title: "ID", cell: (machine) => machine.id.slice(0, 12) },
  { title: "PORTS", cell: (machine) => portsText(machine.ports) },
  { title: "READY", align: "right", cell: (machine) => humanMs(machine.timings?.readyMs ?? 0) },
];

/** What `ps` prints. */
export function listColumns(nowMs: number, style: Style): Column<node.Machine>[] {
  return [
    { title: "NAME", cell: (machine) => machine.name },
    { title: "ID", cell: (machine) => machine.id.slice(0, 12) },
    { title: "SNAPSHOT", cell: (machine) => machine.snapshot || shortDigest(machine.snapshotDigest) },
    { title: "STATE", cell: (machine) => stateText(machine.state, style) },
    {
      title: "AGE",
      align: "right",
      cell: (machine) => (machine.created ? humanAge(millisecondsOf(machine.created), nowMs) : ""),
    },
    {
      title: "READY",
      align: "right",
      cell: (machine) => (machine.timings ? humanMs(machine.timings.readyMs) : ""),
    },
    { title: "PORTS", cell: (machine) => portsText(machine.ports) },
  ];
}
