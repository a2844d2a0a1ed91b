import type { SnapshotConfig } from "@sporelet/store";

/** What restoring a snapshot's state, or booting it cold, needs of a host. */
export interface StateNeeds {
  /** Version of the config's format. */
  format: number;
  driver: string;
  version: string;
  accelerator: string;
  agentProtocol: number;
  network: string;
  /** Of its programs and its CPU, by OCI's names: amd64, arm64. Absent where it does not tell. */
  architecture?: string;
  machineType?: string;
  cpuModel?: string;
  /** With hardware virtualisation. */
  cpuVendor?: string;
  cpuFeatures?: readonly string[];
  /** With software emulation. */
  tscKhz?: number;
  /** Release of the kernel that it can be booted cold with. Absent: its state is all there is. */
  kernel?: string;
  memoryBytes: number;
  /** ISO 8601. */
  created: string;
  /** What in the snapshot contradicts itself. */
  contradiction?: string;
}

export function needsOf(config: SnapshotConfig): StateNeeds {
  const { vmm, shape, files } = config;
  const contradiction = contradictionIn(config);
  const architecture = architectureIn(vmm);
  const bootable = files.kernel !== undefined && files.initramfs !== undefined;
  return {
    format: config.formatVersion,
    ...{ driver: vmm.driver, version: vmm.version, accelerator: vmm.accelerator },
    agentProtocol: config.agent.protocol,
    network: shape.network,
    ...(architecture !== undefined && { architecture }),
    ...(vmm.machineType !== undefined && { machineType: vmm.machineType }),
    ...(vmm.cpuModel !== undefined && { cpuModel: vmm.cpuModel }),
    ...(vmm.cpuVendor !== undefined && { cpuVendor: vmm.cpuVendor }),
    ...(vmm.cpuFeatures !== undefined && { cpuFeatures: vmm.cpuFeatures }),
    ...(vmm.tscKhz !== undefined && { tscKhz: vmm.tscKhz }),
    ...(bootable && { kernel: config.kernel.release }),
    memoryBytes: shape.memoryBytes,
    created: config.created,
    ...(contradiction !== undefined && { contradiction }),
  };
}

/** Those that do not say it are known by their machine: QEMU has a microvm for x86 alone. */
function architectureIn({
  architecture,
  machineType,
}: {
  architecture?: string | undefined;
  machineType?: string | undefined;
}): string | undefined {
  return architecture ?? (machineType === "microvm" ? "amd64" : undefined);
}

function contradictionIn({ vmm, shape, files }: SnapshotConfig): string | undefined {
  if (vmm.accelerator !== shape.accelerator) {
    return `its config contradicts itself about the accelerator (${vmm.accelerator}, ${shape.accelerator})`;
  }
  if (shape.disks !== (files.disk === undefined ? 0 : 1)) {
    return `it has ${shape.disks} disks in its shape and another number in its files`;
  }
  return undefined;
}

/** Annotations of a variant in a registry's index, by what they say. */
const names = {
  format: "ai.sporelet.format",
  driver: "ai.sporelet.vmm",
  version: "ai.sporelet.vmm.version",
  accelerator: "ai.sporelet.accelerator",
  agentProtocol: "ai.sporelet.agent.protocol",
  network: "ai.sporelet.network",
  architecture: "ai.sporelet.architecture",
  machineType: "ai.sporelet.machine.type",
  cpuModel: "ai.sporelet.cpu.model",
  cpuVendor: "ai.sporelet.cpu.vendor",
  cpuFeatures: "ai.sporelet.cpu.features",
  tscKhz: "ai.sporelet.tsc.khz",
  kernel: "ai.sporelet.kernel",
  memoryBytes: "ai.sporelet.memory.bytes",
  created: "ai.sporelet.created",
} as const satisfies Record<Exclude<keyof StateNeeds, "contradiction">, string>;

/**
 * A snapshot's needs as annotations of its entry in an index, so that hosts can choose among variants without
 * fetching their configs. docs/compatibility.md lists them.
 */
export function requirementsOf(config: SnapshotConfig): Record<string, string> {
  const needs = needsOf(config);
  const annotations: Record<string, string> = {};
  for (const [key, name] of Object.entries(names)) {
    const value = needs[key as keyof typeof names];
    if (value !== undefined) annotations[name] = typeof value === "object" ? value.join(" ") : `${value}`;
  }
  return annotations;
}

/** Reads what `requirementsOf` wrote. @returns the name of the annotation that is missing or malformed instead */
export function needsIn(annotations: Readonly<Record<string, string>>): StateNeeds | { wrong: string } {
  const at = (key: keyof typeof names) =>
    Object.hasOwn(annotations, names[key]) ? annotations[names[key]] : undefined;
  const whole = (key: keyof typeof names) => {
    const text = at(key);
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  };
  const needed = { driver: at("driver"), version: at("version"), accelerator: at("accelerator") };
  const numbers = {
    format: whole("format"),
    agentProtocol: whole("agentProtocol"),
    memoryBytes: whole("memoryBytes"),
  };
  const rest = { network: at("network"), created: at("created") };
  const all = { ...numbers, ...needed, ...rest };
  for (const [key, value] of Object.entries(all)) {
    if (value === undefined) return { wrong: names[key as keyof typeof all] };
  }
  if (at("tscKhz") !== undefined && whole("tscKhz") === undefined) return { wrong: names.tscKhz };
  const machineType = at("machineType");
  const optional = {
    architecture: architectureIn({ architecture: at("architecture"), machineType }),
    machineType,
    cpuModel: at("cpuModel"),
    cpuVendor: at("cpuVendor"),
    cpuFeatures: at("cpuFeatures")
      ?.split(" ")
      .filter((feature) => feature !== ""),
    tscKhz: whole("tscKhz"),
    kernel: at("kernel"),
  };
  const present = Object.entries(optional).filter(([, value]) => value !== undefined);
  return { ...(all as Required<typeof all>), ...Object.fromEntries(present) } as StateNeeds;
}
