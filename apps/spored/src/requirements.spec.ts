import type { SnapshotConfig } from "@sporelet/store";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { whyNot, whyNotResumable } from "./gate.ts";
import { chooseVariant, requirementsOf, sameHosts } from "./requirements.ts";
import { needsIn, needsOf } from "./state-needs.ts";
import { exampleConfig as config, exampleHost as host, onKvm } from "./testing/gate-host.ts";

const variant = (name: string, of: SnapshotConfig) => ({ name, requirements: requirementsOf(of) });
const made = (created: string, of = config) => ({ ...of, created });
const by = (version: string, of = config) => ({ ...of, vmm: { ...of.vmm, version } });
const outcome = (variants: ReturnType<typeof variant>[], on = host) => {
  const choice = chooseVariant(variants, on);
  return "chosen" in choice ? choice.chosen.name : undefined;
};

/** Configs of all kinds that a registry may offer. */
const configs = fc
  .record({
    version: fc.constantFrom(config.vmm.version, "8.0 machine 2"),
    tscKhz: fc.option(fc.integer({ min: 2_599_000, max: 2_601_000 }), { nil: undefined }),
    protocol: fc.constantFrom(1, 2),
    network: fc.constantFrom("tap" as const, "user" as const, "none" as const),
    kvm: fc.option(fc.uniqueArray(fc.constantFrom("fpu", "sse2", "amx_tile")), { nil: undefined }),
    kernel: fc.boolean(),
    architecture: fc.constantFrom("amd64", "arm64", undefined),
    created: fc.date({ noInvalidDate: true, min: new Date(0), max: new Date("2100-01-01") }),
  })
  .map(({ version, tscKhz, protocol, network, kvm, kernel, architecture, created }): SnapshotConfig => {
    const { kernel: image, ...files } = config.files;
    const { tscKhz: _, architecture: __, ...vmm } = config.vmm;
    const plain: SnapshotConfig = {
      ...config,
      created: created.toISOString(),
      vmm: {
        ...{ ...vmm, version },
        ...(tscKhz !== undefined && { tscKhz }),
        ...(architecture !== undefined && { architecture }),
      },
      shape: { ...config.shape, network },
      agent: { ...config.agent, protocol },
      files: { ...files, ...(kernel && image && { kernel: image }) },
    };
    return kvm === undefined ? plain : onKvm(plain, { cpuVendor: "GenuineIntel", cpuFeatures: kvm });
  });

describe("requirements of a variant", () => {
  it("are what a person reads in the index", () => {
    expect(requirementsOf(config)).toEqual({
      "ai.sporelet.format": "2",
      "ai.sporelet.vmm": "qemu",
      "ai.sporelet.vmm.version": "7.2.22 (Debian 1:7.2+dfsg-7) machine 2",
      "ai.sporelet.accelerator": "tcg",
      "ai.sporelet.agent.protocol": "1",
      "ai.sporelet.network": "tap",
      "ai.sporelet.architecture": "amd64",
      "ai.sporelet.machine.type": "microvm",
      "ai.sporelet.cpu.model": "max,la57=off",
      "ai.sporelet.tsc.khz": "2600000",
      "ai.sporelet.kernel": "6.1.0-40-amd64",
      "ai.sporelet.memory.bytes": "268435456",
      "ai.sporelet.created": "2026-01-01T00:00:00.000Z",
    });
  });

  it("lead to the same decision as the config that they were made of", () => {
    fc.assert(
      fc.property(configs, (of) => {
        const needs = needsIn(requirementsOf(of));
        expect(needs).toEqual(needsOf(of));
        if ("wrong" in needs) return;
        expect(whyNot(needs, host)).toEqual(whyNotResumable(of, host));
      }),
    );
  });

  it("are refused by name when one is missing or malformed", () => {
    const { "ai.sporelet.vmm.version": _, ...rest } = requirementsOf(config);
    expect(needsIn(rest)).toEqual({ wrong: "ai.sporelet.vmm.version" });
    for (const name of ["ai.sporelet.format", "ai.sporelet.tsc.khz", "ai.sporelet.memory.bytes"]) {
      for (const value of ["", "-1", "2.5", "1e9", "9".repeat(40)]) {
        expect(needsIn({ ...requirementsOf(config), [name]: value })).toEqual({ wrong: name });
      }
    }
  });

  it("can be anything at all without harm", () => {
    const annotations = fc.dictionary(fc.constantFrom(...Object.keys(requirementsOf(config))), fc.string());
    fc.assert(
      fc.property(annotations, (requirements) => {
        const choice = chooseVariant([{ requirements }], host);
        expect("chosen" in choice || choice.refusals.length === 1).toBe(true);
      }),
    );
  });
});

describe("the choice among variants", () => {
  it("takes the best accelerator that works, and of these the newest", () => {
    const variants = [
      variant("old", made("2026-01-01T00:00:00.000Z")),
      variant("new", made("2026-02-01T00:00:00.000Z")),
      variant("fast", made("2025-01-01T00:00:00.000Z", onKvm(config))),
    ];
    expect(outcome(variants)).toBe("fast");
    const tcgOnly = { ...host, probe: { ...host.probe, accelerators: ["tcg" as const] } };
    expect(outcome(variants, tcgOnly)).toBe("new");
  });

  it("takes nothing that is for another kind of CPU, not even to boot it", () => {
    const foreign = { ...config, vmm: { ...config.vmm, architecture: "arm64" } };
    const { machineType: _, architecture: __, ...unsaid } = config.vmm;
    const silent = { ...config, vmm: unsaid };
    const choice = chooseVariant([variant("foreign", foreign), variant("silent", silent)], host);
    if ("chosen" in choice) throw new Error("none was to be chosen");
    expect(choice.bootable).toBeUndefined();
    expect(choice.refusals.map(({ reason }) => reason)).toEqual([
      "it is for arm64, and this host is amd64",
      "it does not say which kind of CPU it is for",
    ]);
  });

  it("passes over what does not fit, however new", () => {
    expect(outcome([variant("fits", config), variant("not", by("9", made("2027-01-01T00:00:00Z")))])).toBe(
      "fits",
    );
  });

  it("says why not each when none fits, and which can be booted", () => {
    const { kernel: _, ...files } = config.files;
    const choice = chooseVariant(
      [
        variant("state only", by("8", { ...made("2026-03-01T00:00:00Z"), files })),
        variant("older", by("9")),
        { name: "empty", requirements: {} },
      ],
      host,
    );
    if ("chosen" in choice) throw new Error("none was to be chosen");
    expect(choice.bootable?.name).toBe("older");
    expect(choice.refusals.map(({ variant: { name }, bootable }) => ({ name, bootable }))).toEqual([
      { name: "state only", bootable: false },
      { name: "older", bootable: true },
      { name: "empty", bootable: false },
    ]);
    expect(choice.refusals.map(({ reason }) => reason)).toEqual([
      expect.stringContaining("written by qemu 8"),
      expect.stringContaining("written by qemu 9"),
      expect.stringContaining("does not say ai.sporelet.format"),
    ]);
  });

  it("chooses only what the gate lets through, and something whenever there is such a variant", () => {
    fc.assert(
      fc.property(fc.array(configs, { maxLength: 6 }), (all) => {
        const variants = all.map((of, n) => ({ ...variant(`${n}`, of), of }));
        const fitting = variants.filter(({ of }) => whyNotResumable(of, host) === undefined);
        const choice = chooseVariant(variants, host);
        if (!("chosen" in choice)) {
          expect(fitting).toEqual([]);
          expect(choice.refusals).toHaveLength(variants.length);
          return;
        }
        expect(fitting).toContain(choice.chosen);
        const { accelerator } = choice.chosen.of.vmm;
        const better = fitting.filter(({ of }) =>
          of.vmm.accelerator === accelerator
            ? of.created > choice.chosen.of.created
            : of.vmm.accelerator === "kvm",
        );
        expect(better).toEqual([]);
      }),
    );
  });
});

it("knows variants that are for the same hosts", () => {
  const later = { ...made("2026-05-01T00:00:00.000Z"), vmm: { ...config.vmm, tscKhz: 2_600_002 } };
  expect(sameHosts(variant("a", config), variant("b", later))).toBe(true);
  expect(sameHosts(variant("a", config), variant("b", onKvm(config)))).toBe(false);
  const slower = { ...config, vmm: { ...config.vmm, tscKhz: 2_100_000 } };
  expect(sameHosts(variant("a", config), variant("b", slower))).toBe(false);
  expect(sameHosts(variant("a", config), { requirements: {} })).toBe(false);
});
