import { agentProtocol } from "@sporelet/api";
import { hostArchitecture, hostCpu, tscKhz } from "@sporelet/host";
import type { Accelerator } from "@sporelet/vmm";
import type { GateHost } from "./gate.ts";
import type { Node } from "./node.ts";

/** Newest version of snapshot configs that is read here; see `parseConfig`. */
const format = 2;

/**
 * What of this host matters to frozen states, asked once for each spored.
 *
 * @param need an accelerator that is of interest, and a guest that it can be tried with
 */
export async function gateHost(
  node: Node,
  need?: { accelerator: Accelerator; guest: { kernel?: string; initramfs?: string } },
): Promise<GateHost> {
  const [probe, cpu, khz] = await Promise.all([node.probes.get(need), hostCpu(), tscKhz()]);
  const architecture = hostArchitecture();
  return { probe, agentProtocol, format, architecture, networks: node.networks.kinds, cpu, tscKhz: khz };
}
