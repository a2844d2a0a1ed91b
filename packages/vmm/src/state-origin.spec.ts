import { hostArchitecture, hostCpu, tscKhz } from "@sporelet/host";
import { expect, it } from "vitest";
import type { Probe } from "./contract.ts";
import { stateOrigin } from "./state-origin.ts";

const probe: Probe = {
  driver: "qemu",
  version: "7.2.22 machine 2",
  machineType: "microvm",
  cpuModels: { tcg: "max", kvm: "host" },
  accelerators: ["kvm", "tcg"],
  problems: [],
};
const same = {
  ...{ driver: "qemu", version: "7.2.22 machine 2", machineType: "microvm" },
  architecture: hostArchitecture(),
};

it("names the rate of the clock under software emulation, whose CPU is the same everywhere", async () => {
  const khz = await tscKhz();
  expect(await stateOrigin(probe, "tcg")).toEqual({
    ...same,
    ...{ accelerator: "tcg", cpuModel: "max" },
    ...(khz !== undefined && { tscKhz: khz }),
  });
});

it("names the CPU with hardware virtualisation, whose clock is the hypervisor's", async () => {
  const { vendor, features } = await hostCpu();
  expect(await stateOrigin(probe, "kvm")).toEqual({
    ...same,
    ...{ accelerator: "kvm", cpuModel: "host", cpuVendor: vendor, cpuFeatures: features },
  });
});

it("leaves out what the driver does not tell", async () => {
  const { machineType: _, cpuModels: _models, ...bare } = probe;
  expect(Object.keys(await stateOrigin(bare, "tcg"))).not.toContain("machineType");
  expect(Object.keys(await stateOrigin(bare, "tcg"))).not.toContain("cpuModel");
});
