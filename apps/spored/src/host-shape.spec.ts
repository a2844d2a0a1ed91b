import { describe, expect, it } from "vitest";
import { shapeOfMachine, shapeOn } from "./host-shape.ts";
import type { MachineRecord } from "./record.ts";
import { exampleConfig, exampleHost, onKvm } from "./testing/gate-host.ts";

const { shape } = exampleConfig;
const tcgOnly = { ...exampleHost, probe: { ...exampleHost.probe, accelerators: ["tcg" as const] } };

describe("the shape of a machine that is booted on another host", () => {
  it("stays as it is where the host can give everything", () => {
    expect(shapeOn(shape, exampleHost, "tap")).toEqual(shape);
  });

  it("gets the accelerator and the network that there are", () => {
    const kvm = onKvm(exampleConfig).shape;
    expect(shapeOn(kvm, { ...tcgOnly, networks: ["user", "none"] }, "user")).toEqual({
      ...shape,
      accelerator: "tcg",
      network: "user",
    });
  });

  it("never gives a network to a machine that had none", () => {
    expect(shapeOn({ ...shape, network: "none" }, exampleHost, "tap").network).toBe("none");
  });

  it("is told by the machine's record", () => {
    const record = (network: MachineRecord["network"]) =>
      ({ accelerator: "tcg", network }) as unknown as MachineRecord;
    const kvm = onKvm(exampleConfig).shape;
    const netns = { kind: "netns", name: "n", netns: "/n", tap: "tap0", dns: [] } as const;
    expect(shapeOfMachine(kvm, record({ ...netns, dns: [] }))).toEqual(shape);
    expect(shapeOfMachine(kvm, record({ kind: "user", forwards: [] }))).toEqual({
      ...shape,
      network: "user",
    });
    expect(shapeOfMachine(kvm, record({ kind: "none" }))).toEqual({ ...shape, network: "none" });
  });
});
