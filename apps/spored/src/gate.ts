import { SporeletError } from "@sporelet/errors";
import type { SnapshotConfig, StoredSnapshot } from "@sporelet/store";
import type { Probe } from "@sporelet/vmm";
import { needsOf, type StateNeeds } from "./state-needs.ts";

/** What of this host matters to frozen states. */
export interface GateHost {
  probe: Probe;
  /** Version of the agent protocol that this spored speaks. */
  agentProtocol: number;
  /** Newest version of configs that this spored reads. */
  format: number;
  /** What its programs are made for, by OCI's names: amd64, arm64. */
  architecture: string;
  /** Kinds of guest network that this host can give. */
  networks: readonly ("tap" | "user" | "none")[];
  cpu: { vendor: string; features: readonly string[] };
  /** Rate of the time stamp counter; undefined where it cannot be read. */
  tscKhz: number | undefined;
}

/** Why a state cannot be restored on a host. */
export interface Refusal {
  /** All that stands against it, for people. */
  reason: string;
  /** Whether the same snapshot's kernel and disk can be booted cold there instead. */
  bootable: boolean;
  /** Why they cannot. */
  whyNotBootable?: string;
}

/**
 * By how much two hosts' time stamp counters may differ, in millionths. Crystals of one kind differ by up to 100,
 * and our measurement errs by less than 25 (see `tscKhz`). NTP slews a clock by up to 500; KVM takes rates within
 * half of that for the same (linux:arch/x86/kvm/x86.c, tsc_tolerance_ppm), and so does the gate. At the limit a
 * guest's clock is wrong by a second after 67 minutes; it is set at each resume.
 */
const tscToleranceMillionths = 250;

/**
 * Whether a host can restore a snapshot's machine state: undefined, or why not. Fails closed: what is not known
 * to fit does not. Pure. docs/compatibility.md says why each of these matters.
 */
export function whyNotResumable(config: SnapshotConfig, host: GateHost): Refusal | undefined {
  return whyNot(needsOf(config), host);
}

/** As `whyNotResumable`, for needs that were read elsewhere. */
export function whyNot(needs: StateNeeds, host: GateHost): Refusal | undefined {
  const notBootable = whyNotBootable(needs, host);
  // A host without a VMM has none of the rest either.
  const against = host.probe.version === undefined ? notBootable : stateReasons(needs, host);
  if (against.length === 0) return undefined;
  return {
    reason: against.join("; "),
    bootable: notBootable.length === 0,
    ...(notBootable.length > 0 && { whyNotBootable: notBootable.join("; ") }),
  };
}

/** What stands against a cold boot of the kernel and the disk: it takes any accelerator and network. */
function whyNotBootable(needs: StateNeeds, host: GateHost): string[] {
  const { probe, agentProtocol, format } = host;
  if (probe.version === undefined) {
    return [`${probe.driver} is not usable on this host: ${problemsOf(probe)}`];
  }
  return present([
    architectureReason(needs, host),
    needs.format > format && `its format version ${needs.format} is not known here`,
    needs.contradiction,
    probe.accelerators.length === 0 && `${probe.driver} cannot run guests on this host: ${problemsOf(probe)}`,
    needs.agentProtocol !== agentProtocol &&
      `its agent speaks protocol ${needs.agentProtocol}, and this spored speaks ${agentProtocol}`,
    needs.kernel === undefined && "it has no kernel and initramfs, only a frozen state",
  ]);
}

function stateReasons(needs: StateNeeds, host: GateHost): string[] {
  const { probe } = host;
  const { driver, version, accelerator } = needs;
  const fundamental = whyNotBootable({ ...needs, kernel: "" }, host);
  if (driver !== probe.driver) {
    return [...fundamental, `its state was written by ${driver}, and this host has ${probe.driver}`];
  }
  const cpuModel = (probe.cpuModels as Record<string, string | undefined> | undefined)?.[accelerator];
  return [
    ...fundamental,
    ...present([
      version !== probe.version &&
        `its state was written by ${driver} ${version}, and this host has ${probe.version}`,
      differs(needs.machineType, probe.machineType) &&
        `its machine is of type ${needs.machineType}, and this host makes ${probe.machineType}`,
      !(probe.accelerators as readonly string[]).includes(accelerator) &&
        `its state needs ${accelerator}, which does not work on this host: ${problemsOf(probe, accelerator)}`,
      differs(needs.cpuModel, cpuModel) &&
        `its CPU is of the model ${needs.cpuModel}, and this host has ${cpuModel}`,
      !(host.networks as readonly string[]).includes(needs.network) &&
        `its state has a network of kind ${needs.network}, which spored cannot give here without root`,
      accelerator === "kvm" ? cpuReason(needs, host) : clockReason(needs, host),
    ]),
  ];
}

/** Neither a state nor a kernel means anything to another kind of CPU. */
function architectureReason({ architecture }: StateNeeds, host: GateHost): string | undefined {
  if (architecture === undefined) return "it does not say which kind of CPU it is for";
  if (architecture === host.architecture) return undefined;
  return `it is for ${architecture}, and this host is ${host.architecture}`;
}

/** With hardware virtualisation the guest's CPU is the host's, and what the guest found at its boot it uses. */
function cpuReason({ cpuVendor, cpuFeatures }: StateNeeds, { cpu }: GateHost): string | undefined {
  if (cpuVendor === undefined || cpuFeatures === undefined) {
    return "it does not say which CPU its guest has, and with hardware virtualisation it has to be known";
  }
  if (cpuVendor !== cpu.vendor) {
    return `its guest has a CPU by ${cpuVendor}, and this host has one by ${cpu.vendor || "somebody unknown"}`;
  }
  const lacking = cpuFeatures.filter((feature) => !cpu.features.includes(feature));
  if (lacking.length === 0) return undefined;
  const more = lacking.length > 8 ? ` and ${lacking.length - 8} more` : "";
  return `its guest may use features that this host's CPU lacks: ${lacking.slice(0, 8).join(", ")}${more}`;
}

/** Under software emulation the guest's clock counts the host's time stamp counter. */
function clockReason({ tscKhz }: StateNeeds, host: GateHost): string | undefined {
  if (sameClock(tscKhz, host.tscKhz)) return undefined;
  if (tscKhz === undefined) return "it does not say at which rate its guest's clock counts";
  if (host.tscKhz === undefined) return "the rate of this host's time stamp counter cannot be read";
  return `its guest's clock counts at ${megahertz(tscKhz)}, and this host's time stamp counter runs at ${megahertz(host.tscKhz)}: the guest's time would pass at the wrong speed`;
}

/** Whether clocks of these rates keep the same time. */
export function sameClock(oneKhz: number | undefined, otherKhz: number | undefined): boolean {
  if (oneKhz === undefined || otherKhz === undefined) return oneKhz === otherKhz;
  return Math.abs(otherKhz - oneKhz) * 1e6 <= oneKhz * tscToleranceMillionths;
}

function megahertz(khz: number): string {
  return `${(khz / 1000).toFixed(3)} MHz`;
}

/** What only one side tells is no difference: the version covers it (see `machineRevision` of the driver). */
function differs(needed: string | undefined, found: string | undefined): boolean {
  return needed !== undefined && found !== undefined && needed !== found;
}

function present(reasons: readonly (string | false | undefined)[]): string[] {
  return reasons.filter((reason) => typeof reason === "string");
}

function problemsOf(probe: Probe, accelerator?: string): string {
  const about = probe.problems.filter(
    ({ finding }) => accelerator !== undefined && finding.startsWith(`${accelerator.toUpperCase()}:`),
  );
  const problems = about.length > 0 ? about : probe.problems;
  return problems.map(({ finding }) => finding).join("; ") || "no reason known";
}

/** The error for a snapshot that can neither be resumed nor, where that was of use, be booted. */
export function refused(
  reference: string,
  { reason, whyNotBootable }: Refusal,
  host: GateHost,
): SporeletError {
  const unusable = host.probe.version === undefined;
  const remedy = host.probe.problems.find((problem) => problem.remedy !== undefined)?.remedy;
  return new SporeletError({
    code: unusable ? "unsupported" : "incompatible",
    operation: "resume",
    subject: reference,
    reason:
      whyNotBootable === undefined || unusable || reason === whyNotBootable
        ? reason
        : `${reason}. Nor can it be booted cold instead: ${whyNotBootable}`,
    hint: (unusable ? remedy : undefined) ?? "build the snapshot again on this host",
  });
}

/** @throws SporeletError `incompatible` or `unsupported` when a snapshot cannot be booted cold on this host. */
export function requireBootable(reference: string, config: SnapshotConfig, host: GateHost): void {
  const against = whyNotBootable({ ...needsOf(config), kernel: "" }, host);
  if (against.length === 0) return;
  throw new SporeletError({
    code: host.probe.version === undefined ? "unsupported" : "incompatible",
    operation: "boot",
    subject: reference,
    reason: against.join("; "),
    hint: host.probe.problems.find(({ remedy }) => remedy !== undefined)?.remedy,
  });
}

/**
 * What a cold boot needs of a snapshot's files.
 *
 * @throws SporeletError `failed_precondition` when it has no kernel: its maker gave the state alone.
 */
export function kernelOf(
  reference: string,
  { files: { kernel, initramfs } }: Pick<StoredSnapshot, "files">,
): { kernel: string; initramfs: string } {
  if (kernel !== undefined && initramfs !== undefined) return { kernel, initramfs };
  throw new SporeletError({
    code: "failed_precondition",
    operation: "boot",
    subject: reference,
    reason: `it has no ${kernel === undefined ? "kernel" : "initramfs"} to boot, only a frozen state`,
    hint: `sporectl run ${reference} resumes the state`,
  });
}
