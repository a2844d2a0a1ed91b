import type { SnapshotConfig } from "@sporelet/store";
import { describe, expect, it } from "vitest";
import { type GateHost, requireResumable } from "./gate.ts";

const file = { digest: "sha256:0", sizeBytes: 1, usedBytes: 1 } as const;
const config: SnapshotConfig = {
  formatVersion: 2,
  created: "2026-01-01T00:00:00.000Z",
  layer: 0,
  source: "test",
  vmm: { driver: "qemu", version: "7.2.22", accelerator: "tcg" },
  shape: { cpus: 1, memoryBytes: 1 << 28, accelerator: "tcg", disks: 0, network: "tap", mac: "" },
  kernel: { release: "6.1", arguments: [] },
  agent: { protocol: 1, version: "0.1.0" },
  files: { memory: file, vmstate: file, kernel: file, initramfs: file },
  ports: [],
  services: [],
  recipe: {},
};
const host: GateHost = {
  probe: { driver: "qemu", version: "7.2.22", accelerators: ["tcg"], problems: [] },
  agentProtocol: 1,
  networks: ["tap", "user", "none"],
};

function refusal(changed: Partial<SnapshotConfig>, on: Partial<GateHost> = {}) {
  try {
    requireResumable("app:1", { ...config, ...changed }, { ...host, ...on });
  } catch (error) {
    return error as { code: string; reason: string; hint?: string };
  }
  return undefined;
}

describe("the gate before a resume", () => {
  it("lets a snapshot through that was made by this VMM on this accelerator", () => {
    expect(refusal({})).toBeUndefined();
  });

  it("refuses another version of the VMM, and offers a cold boot", () => {
    const error = refusal({ vmm: { ...config.vmm, version: "10.0.0" } });
    expect(error).toMatchObject({
      code: "incompatible",
      hint: expect.stringContaining("sporectl boot app:1"),
    });
    expect(error?.reason).toContain("10.0.0");
    expect(error?.reason).toContain("7.2.22");
  });

  it("refuses another driver", () => {
    expect(refusal({ vmm: { ...config.vmm, driver: "firecracker" } })?.reason).toContain("firecracker");
  });

  it("refuses an accelerator that does not work here, and says why it does not", () => {
    const shape = { ...config.shape, accelerator: "kvm" } as const;
    const probe = { ...host.probe, problems: [{ finding: "KVM: no /dev/kvm" }] };
    const error = refusal({ shape, vmm: { ...config.vmm, accelerator: "kvm" } }, { probe });
    expect(error?.reason).toContain("no /dev/kvm");
  });

  it("refuses a config that contradicts itself", () => {
    expect(refusal({ vmm: { ...config.vmm, accelerator: "kvm" } })?.code).toBe("incompatible");
    expect(refusal({ shape: { ...config.shape, disks: 1 } })?.code).toBe("incompatible");
  });

  it("refuses another agent protocol and a network that needs root", () => {
    expect(refusal({ agent: { protocol: 2, version: "9" } })?.reason).toContain("protocol 2");
    expect(refusal({}, { networks: ["user", "none"] })?.reason).toContain("without root");
  });

  it("tells a missing VMM apart from a snapshot that does not fit", () => {
    const problems = [{ finding: "not installed", remedy: "apt-get install qemu-system-x86" }];
    const error = refusal({}, { probe: { driver: "qemu", accelerators: [], problems } });
    expect(error).toMatchObject({ code: "unsupported", hint: "apt-get install qemu-system-x86" });
  });
});
