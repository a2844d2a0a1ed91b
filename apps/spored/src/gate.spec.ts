import type { SnapshotConfig } from "@sporelet/store";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type GateHost, kernelOf, refused, requireBootable, whyNotResumable } from "./gate.ts";
import { exampleConfig as config, exampleHost as host, onKvm } from "./testing/gate-host.ts";

type Change = Partial<Omit<SnapshotConfig, "vmm" | "shape" | "agent" | "files">> & {
  [part in "vmm" | "shape" | "agent" | "files"]?: Partial<SnapshotConfig[part]>;
};

function changed({ vmm, shape, agent, files, ...rest }: Change, of = config): SnapshotConfig {
  return {
    ...of,
    ...rest,
    vmm: { ...of.vmm, ...vmm },
    shape: { ...of.shape, ...shape },
    agent: { ...of.agent, ...agent },
    files: { ...of.files, ...files },
  } as SnapshotConfig;
}

const refusal = (change: Change, on: Partial<GateHost> = {}) =>
  whyNotResumable(changed(change), { ...host, ...on });
const probe = (change: Partial<GateHost["probe"]>) => ({ probe: { ...host.probe, ...change } });
const without = <K extends keyof SnapshotConfig["vmm"]>(key: K) => {
  const { [key]: _, ...vmm } = config.vmm;
  return { ...config, vmm } as SnapshotConfig;
};

describe("the gate before a resume", () => {
  it("lets a snapshot through that was made by this VMM on this accelerator", () => {
    expect(whyNotResumable(config, host)).toBeUndefined();
    expect(whyNotResumable(onKvm(config), host)).toBeUndefined();
  });

  const cases: [string, Change, Partial<GateHost>, { bootable: boolean; says: string[] }][] = [
    [
      "another version of the VMM",
      { vmm: { version: "10.0.2 machine 2" } },
      {},
      { bootable: true, says: ["qemu 10.0.2 machine 2", "this host has 7.2.22 (Debian 1:7.2+dfsg-7)"] },
    ],
    [
      "another driver",
      { vmm: { driver: "firecracker" } },
      {},
      { bootable: true, says: ["written by firecracker", "this host has qemu"] },
    ],
    [
      "another kind of CPU",
      { vmm: { architecture: "arm64" } },
      {},
      { bootable: false, says: ["it is for arm64, and this host is amd64"] },
    ],
    [
      "another type of machine",
      { vmm: { machineType: "q35" } },
      {},
      { bootable: true, says: ["of type q35", "microvm"] },
    ],
    [
      "another model of CPU",
      { vmm: { cpuModel: "max" } },
      {},
      { bootable: true, says: ["of the model max,", "max,la57=off"] },
    ],
    [
      "an accelerator that does not work here",
      { vmm: { accelerator: "kvm" }, shape: { accelerator: "kvm" } },
      probe({
        accelerators: ["tcg"],
        problems: [{ finding: "KVM: there is no /dev/kvm" }, { finding: "TCG: slow" }],
      }),
      { bootable: true, says: ["needs kvm, which does not work on this host: KVM: there is no /dev/kvm"] },
    ],
    [
      "a clock of another speed",
      { vmm: { tscKhz: 2_100_000 } },
      {},
      { bootable: true, says: ["counts at 2100.000 MHz", "runs at 2600.000 MHz"] },
    ],
    [
      "a clock that cannot be compared",
      {},
      { tscKhz: undefined },
      { bootable: true, says: ["cannot be read"] },
    ],
    [
      "a network that needs root",
      {},
      { networks: ["user", "none"] },
      { bootable: true, says: ["kind tap", "without root"] },
    ],
    [
      "another agent protocol",
      { agent: { protocol: 2 } },
      {},
      { bootable: false, says: ["speaks protocol 2", "this spored speaks 1"] },
    ],
    [
      "a later format",
      { formatVersion: 3 as 2 },
      {},
      { bootable: false, says: ["format version 3 is not known"] },
    ],
    [
      "a config that contradicts itself about the accelerator",
      { vmm: { accelerator: "kvm" } },
      {},
      { bootable: false, says: ["contradicts itself about the accelerator (kvm, tcg)"] },
    ],
    [
      "a config that contradicts itself about disks",
      { shape: { disks: 1 } },
      {},
      { bootable: false, says: ["1 disks in its shape"] },
    ],
    [
      "a host whose VMM is not installed",
      {},
      { probe: { driver: "qemu", accelerators: [], problems: [{ finding: "qemu is not installed" }] } },
      { bootable: false, says: ["qemu is not usable on this host: qemu is not installed"] },
    ],
    [
      "a host on which nothing runs",
      {},
      probe({ accelerators: [], problems: [{ finding: "TCG: broken" }] }),
      { bootable: false, says: ["qemu cannot run guests on this host: TCG: broken"] },
    ],
  ];
  it.each(cases)("refuses %s", (_, change, on, { bootable, says }) => {
    const found = refusal(change, on);
    for (const part of says) expect(found?.reason).toContain(part);
    expect(found?.bootable).toBe(bootable);
  });

  it("says everything that stands against a state, not only the first", () => {
    const { reason = "" } = refusal({ vmm: { version: "1", tscKhz: 1_000_000 } }, { networks: [] }) ?? {};
    expect(reason.split("; ")).toHaveLength(3);
  });

  it("says of a state without a kernel that it cannot be booted either", () => {
    const { kernel: _, ...files } = config.files;
    const plain = { ...config, files };
    expect(whyNotResumable(plain, host)).toBeUndefined();
    const found = whyNotResumable({ ...plain, vmm: { ...config.vmm, version: "1" } }, host);
    expect(found).toMatchObject({
      bootable: false,
      whyNotBootable: "it has no kernel and initramfs, only a frozen state",
    });
    expect(found?.reason).not.toContain("kernel");
  });

  it("knows what an older snapshot is for by its machine, and refuses one that tells neither", () => {
    const older = without("architecture");
    expect(whyNotResumable(older, host)).toBeUndefined();
    const { machineType: _, ...vmm } = older.vmm;
    expect(whyNotResumable({ ...older, vmm }, host)).toMatchObject({
      reason: "it does not say which kind of CPU it is for",
      bootable: false,
    });
  });

  it("refuses what does not say what it needs", () => {
    expect(whyNotResumable(without("tscKhz"), host)?.reason).toContain("does not say at which rate");
    expect(whyNotResumable(onKvm(config, {}), host)?.reason).toContain("does not say which CPU");
  });

  it("takes no notice of the clock's rate with hardware virtualisation, nor of the CPU without", () => {
    expect(whyNotResumable(onKvm(config), { ...host, tscKhz: 1 })).toBeUndefined();
    expect(refusal({}, { cpu: { vendor: "AuthenticAMD", features: [] } })).toBeUndefined();
  });

  it("resumes states on any host whose clock runs at nearly the same rate, and on no other", () => {
    const rate = fc.integer({ min: 500_000, max: 6_000_000 });
    fc.assert(
      fc.property(rate, fc.integer({ min: -2000, max: 2000 }), (tscKhz, millionths) => {
        const there = Math.round(tscKhz * (1 + millionths / 1e6));
        const off = (Math.abs(there - tscKhz) / tscKhz) * 1e6;
        expect(refusal({ vmm: { tscKhz } }, { tscKhz: there }) === undefined).toBe(off <= 250);
      }),
    );
  });

  it("resumes a state exactly where its CPU features are a part of the host's", () => {
    const features = fc.uniqueArray(fc.constantFrom("fpu", "sse2", "avx", "avx2", "amx_tile", "sha_ni"));
    fc.assert(
      fc.property(features, features, (needed, found) => {
        const cpu = { vendor: "GenuineIntel", features: found };
        const snapshot = onKvm(config, { cpuVendor: "GenuineIntel", cpuFeatures: needed });
        const lacking = needed.filter((feature) => !found.includes(feature));
        const reason = whyNotResumable(snapshot, { ...host, cpu })?.reason;
        expect(reason).toBe(
          lacking.length === 0
            ? undefined
            : `its guest may use features that this host's CPU lacks: ${lacking.join(", ")}`,
        );
      }),
    );
  });

  it("names the first features that are lacking when there are many, and who made the CPU", () => {
    const cpuFeatures = Array.from({ length: 20 }, (_, n) => `f${n}`);
    const many = whyNotResumable(onKvm(config, { cpuVendor: "GenuineIntel", cpuFeatures }), host);
    expect(many?.reason).toMatch(/f0, .*f7 and 12 more$/);
    const amd = whyNotResumable(onKvm(config, { cpuVendor: "AuthenticAMD", cpuFeatures: [] }), host);
    expect(amd).toMatchObject({
      reason: "its guest has a CPU by AuthenticAMD, and this host has one by GenuineIntel",
      bootable: true,
    });
  });

  it("is of one mind about the same snapshot however often it is asked", () => {
    const anything = fc.record({
      version: fc.constantFrom(config.vmm.version, "1"),
      tscKhz: fc.constantFrom(2_600_000, 2_600_100, 3_000_000),
      protocol: fc.constantFrom(1, 2),
    });
    fc.assert(
      fc.property(anything, ({ version, tscKhz, protocol }) => {
        const change = { vmm: { version, tscKhz }, agent: { protocol } };
        expect(refusal(change)).toEqual(refusal(change));
        const fits = version === config.vmm.version && tscKhz < 3_000_000 && protocol === 1;
        expect(refusal(change) === undefined).toBe(fits);
      }),
    );
  });
});

describe("the error of a snapshot that does not fit", () => {
  it("tells a missing VMM apart from a snapshot that does not fit", () => {
    const problems = [{ finding: "not installed", remedy: "apt-get install qemu-system-x86" }];
    const on: GateHost = { ...host, probe: { driver: "qemu", accelerators: [], problems } };
    const missing = whyNotResumable(config, on);
    expect(missing && refused("app:1", missing, on)).toMatchObject({
      code: "unsupported",
      reason: "qemu is not usable on this host: not installed",
      hint: "apt-get install qemu-system-x86",
    });
  });

  it("says both why the state does not fit and why nothing can be booted instead", () => {
    const { kernel: _, ...files } = config.files;
    const found = whyNotResumable({ ...config, files, vmm: { ...config.vmm, version: "1" } }, host);
    expect(found && refused("app:1", found, host)).toMatchObject({
      code: "incompatible",
      subject: "app:1",
      reason: expect.stringMatching(
        /^its state was written by qemu 1, .*\. Nor can it be booted cold instead: it has no kernel/,
      ),
    });
  });
});

describe("a cold boot", () => {
  const files = { memory: "m", vmstate: "v" };
  const both = { ...files, kernel: "k", initramfs: "i" };

  it("asks for the kernel by name when it is missing", () => {
    expect(kernelOf("app:1", { files: both })).toEqual({ kernel: "k", initramfs: "i" });
    expect(() => kernelOf("app:1", { files: { ...files, kernel: "k" } })).toThrow(
      expect.objectContaining({
        code: "failed_precondition",
        reason: "it has no initramfs to boot, only a frozen state",
      }),
    );
  });

  it("needs nothing that only a state needs", () => {
    const foreign = changed({ vmm: { version: "1", driver: "firecracker", tscKhz: 1, cpuModel: "x" } });
    expect(() => requireBootable("app:1", foreign, { ...host, networks: [] })).not.toThrow();
  });

  it("is refused for an agent that cannot be spoken to", () => {
    const other = changed({ agent: { protocol: 9 } });
    expect(() => requireBootable("app:1", other, host)).toThrow(
      expect.objectContaining({
        code: "incompatible",
        reason: "its agent speaks protocol 9, and this spored speaks 1",
      }),
    );
  });
});
