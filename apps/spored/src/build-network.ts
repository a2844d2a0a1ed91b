import { guestNetwork } from "@sporelet/host";
import type { NetworkLease } from "@sporelet/snapshot-builder";
import type { Node } from "./node.ts";

/** A network for a machine in which something is built, of the kind that its clones are to get here. */
export async function buildNetwork(node: Node, signal: AbortSignal): Promise<NetworkLease> {
  const lease = await node.networks.take(node.networks.preferred, [], signal);
  const { backend, guest } = lease;
  if (backend === undefined || guest === undefined) throw new Error("a network without a backend");
  return { backend, guest: { mac: guestNetwork.mac, ...guest }, release: () => lease.release() };
}
