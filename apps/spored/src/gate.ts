import { SporeletError } from "@sporelet/errors";
import type { SnapshotConfig, StoredSnapshot } from "@sporelet/store";
import type { Probe } from "@sporelet/vmm";

export interface GateHost {
  probe: Probe;
  /** Version of the agent protocol that this spored speaks. */
  agentProtocol: number;
  /** Kinds of guest network that this host can give. */
  networks: readonly ("tap" | "user" | "none")[];
}

/**
 * Whether this host can restore a snapshot's machine state: undefined, or why not. Fails closed: what is not
 * known to fit does not. The kernel and the disk still boot cold where the state does not load.
 *
 * VMM: a state loads into the version that wrote it (qemu: docs/system/i386/microvm.rst, "no live migration
 * across versions"). Accelerator: its CPU features are part of the state.
 */
function whyNotResumable(
  config: SnapshotConfig,
  host: GateHost,
): { reason: string; bootable: boolean } | undefined {
  const { vmm, shape, agent } = config;
  const { probe } = host;
  const not = (reason: string, bootable = true) => ({ reason, bootable });
  if (probe.version === undefined) {
    return not(`${probe.driver} is not usable on this host: ${problemsOf(probe)}`, false);
  }
  if (vmm.driver !== probe.driver) {
    return not(`its state was written by ${vmm.driver}, and this host has ${probe.driver}`);
  }
  if (vmm.version !== probe.version) {
    return not(`its state was written by ${vmm.driver} ${vmm.version}, and this host has ${probe.version}`);
  }
  if (vmm.accelerator !== shape.accelerator) {
    return not(
      `its config contradicts itself about the accelerator (${vmm.accelerator}, ${shape.accelerator})`,
      false,
    );
  }
  if (!probe.accelerators.includes(shape.accelerator)) {
    return not(
      `its state needs ${shape.accelerator}, which does not work on this host: ${problemsOf(probe)}`,
    );
  }
  if (agent.protocol !== host.agentProtocol) {
    return not(
      `its agent speaks protocol ${agent.protocol}, and this spored speaks ${host.agentProtocol}`,
      false,
    );
  }
  if (!host.networks.includes(shape.network)) {
    return not(
      `its state has a network of kind ${shape.network}, which spored cannot give here without root`,
    );
  }
  if (shape.disks !== (config.files.disk === undefined ? 0 : 1)) {
    return not(`it has ${shape.disks} disks in its shape and another number in its files`, false);
  }
  return undefined;
}

function problemsOf(probe: Probe): string {
  return probe.problems.map(({ finding }) => finding).join("; ") || "no reason known";
}

/** @throws SporeletError `incompatible` when the snapshot's state cannot be restored on this host. */
export function requireResumable(reference: string, config: SnapshotConfig, host: GateHost): void {
  const refusal = whyNotResumable(config, host);
  if (refusal === undefined) return;
  throw new SporeletError({
    code: host.probe.version === undefined ? "unsupported" : "incompatible",
    operation: "resume",
    subject: reference,
    reason: refusal.reason,
    hint: refusal.bootable
      ? `sporectl boot ${reference} starts the same machine cold`
      : (host.probe.problems.find(({ remedy }) => remedy)?.remedy ?? "build the snapshot again on this host"),
  });
}

/**
 * What a cold boot needs of a snapshot.
 *
 * @throws SporeletError `failed_precondition` when it has no kernel: its maker gave the state alone.
 */
export function requireBootable(
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
