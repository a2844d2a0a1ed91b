import type { SnapshotConfig } from "@sporelet/store";
import type { GateHost } from "../gate.ts";

const digest: `sha256:${string}` = `sha256:${"0".repeat(64)}`;
const file = { digest, sizeBytes: 1, usedBytes: 1 };

/** A snapshot that `exampleHost` can restore. */
export const exampleConfig: SnapshotConfig = {
  formatVersion: 2,
  created: "2026-01-01T00:00:00.000Z",
  layer: 0,
  source: "test",
  vmm: {
    driver: "qemu",
    version: "7.2.22 (Debian 1:7.2+dfsg-7) machine 2",
    accelerator: "tcg",
    architecture: "amd64",
    machineType: "microvm",
    cpuModel: "max,la57=off",
    tscKhz: 2_600_000,
  },
  shape: { cpus: 1, memoryBytes: 1 << 28, accelerator: "tcg", disks: 0, network: "tap", mac: "" },
  kernel: { release: "6.1.0-40-amd64", arguments: [] },
  agent: { protocol: 1, version: "0.1.0" },
  files: { memory: file, vmstate: file, kernel: file, initramfs: file },
  ports: [],
  services: [],
  recipe: {},
};

export const exampleHost: GateHost = {
  probe: {
    driver: "qemu",
    version: "7.2.22 (Debian 1:7.2+dfsg-7) machine 2",
    machineType: "microvm",
    cpuModels: { tcg: "max,la57=off", kvm: "host" },
    accelerators: ["kvm", "tcg"],
    problems: [],
  },
  agentProtocol: 1,
  format: 2,
  architecture: "amd64",
  networks: ["tap", "user", "none"],
  cpu: { vendor: "GenuineIntel", features: ["avx2", "fpu", "sse2"] },
  tscKhz: 2_600_000,
};

/** The same snapshot, made with hardware virtualisation. */
export function onKvm(
  config: SnapshotConfig,
  cpu: { cpuVendor?: string; cpuFeatures?: string[] } = { cpuVendor: "GenuineIntel", cpuFeatures: ["fpu"] },
): SnapshotConfig {
  const { tscKhz: _, ...vmm } = config.vmm;
  return {
    ...config,
    vmm: { ...vmm, accelerator: "kvm", cpuModel: "host", ...cpu },
    shape: { ...config.shape, accelerator: "kvm" },
  };
}
