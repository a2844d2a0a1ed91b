import type { SnapshotConfig } from "@sporelet/store";
import type { GateHost } from "./gate.ts";
import type { MachineRecord } from "./record.ts";

type Shape = SnapshotConfig["shape"];

/**
 * The shape in which a snapshot's machine boots on a host: its own, but for an accelerator and a network that the
 * host cannot give. A frozen state allows no such changes; a kernel that boots finds what there is. Pure.
 *
 * @param preferredNetwork what takes the place of a network that cannot be had
 */
export function shapeOn(
  shape: Shape,
  { probe, networks }: Pick<GateHost, "probe" | "networks">,
  preferredNetwork: Shape["network"],
): Shape {
  const [best = shape.accelerator] = probe.accelerators;
  return {
    ...shape,
    accelerator: probe.accelerators.includes(shape.accelerator) ? shape.accelerator : best,
    network: networks.includes(shape.network) ? shape.network : preferredNetwork,
  };
}

/** The shape that a machine of a snapshot really has: see `shapeOn`. */
export function shapeOfMachine(shape: Shape, { accelerator, network }: MachineRecord): Shape {
  return { ...shape, accelerator, network: network.kind === "netns" ? "tap" : network.kind };
}
