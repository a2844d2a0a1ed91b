import { once } from "node:events";
import net from "node:net";
import { SporeletError } from "@sporelet/errors";
import {
  type CloneNetwork,
  canUseNetns,
  createNetworkPool,
  guestNetwork,
  type NetworkPool,
} from "@sporelet/host";
import type { NetworkBackend } from "@sporelet/vmm";
import type { GuestAddress } from "./identity.ts";
import type { NetworkRecord, PortRecord } from "./record.ts";

/** The network of one machine. */
export interface MachineNetwork {
  record: NetworkRecord;
  /** For the driver; absent for a machine without network. */
  backend?: NetworkBackend;
  guest?: GuestAddress;
  release(): Promise<void>;
}

/** Gives machines their networks: a namespace each as root, else QEMU's user-mode network. */
export interface Networks extends AsyncDisposable {
  readonly kinds: readonly ("tap" | "user" | "none")[];
  /** What new machines of snapshots built here get. */
  readonly preferred: "tap" | "user";
  /** @param ports published by the VMM itself in user mode; host ports of 0 are chosen here */
  take(
    kind: "tap" | "user" | "none",
    ports: readonly PortRecord[],
    signal?: AbortSignal,
  ): Promise<MachineNetwork>;
  /** Takes the network of a machine over that went on running. */
  adopt(record: NetworkRecord): Promise<MachineNetwork>;
  /** Removes the namespaces of ours that none of these records names. */
  sweep(keep: readonly NetworkRecord[]): Promise<void>;
}

/** QEMU's user-mode network answers names at this address (its default for net=10.107.0.0/24). */
const userModeDns = ["10.107.0.3"];

/** @param options.onError told of what went wrong with networks that no machine has */
export function createNetworks(options: { owner: string; onError?: (error: unknown) => void }): Networks {
  const pool = canUseNetns() ? createNetworkPool(options) : undefined;
  return {
    kinds: pool ? ["tap", "user", "none"] : ["user", "none"],
    preferred: pool ? "tap" : "user",
    async take(kind, ports, signal) {
      if (kind === "none") return none;
      if (kind === "user") return userNetwork(await forwardsOf(ports));
      const taken = requirePool(pool);
      return namespaceNetwork(taken, await taken.take(signal));
    },
    async adopt(record) {
      if (record.kind === "none") return none;
      if (record.kind === "user") return userNetwork(record.forwards);
      const taken = requirePool(pool);
      const network = await taken.adopt(record.name);
      // Without its namespace the guest is cut off, but it runs, and its agent is reached all the same.
      return namespaceNetwork(taken, network ?? record);
    },
    async sweep(keep) {
      await pool?.sweep(keep.flatMap((record) => (record.kind === "netns" ? [record.name] : [])));
    },
    async [Symbol.asyncDispose]() {
      await pool?.close();
    },
  };
}

const none: MachineNetwork = { record: { kind: "none" }, release: async () => {} };

function namespaceNetwork(pool: NetworkPool, network: CloneNetwork): MachineNetwork {
  const { name, netns, tap, dns } = network;
  return {
    record: { kind: "netns", name, netns, tap, dns },
    backend: { kind: "tap", netns, tap },
    guest: { address: guestNetwork.address, gateway: guestNetwork.gateway, dns },
    release: () => pool.release(network),
  };
}

function userNetwork(
  forwards: { hostAddress: string; hostPort: number; guestPort: number }[],
): MachineNetwork {
  return {
    record: { kind: "user", forwards },
    backend: { kind: "user", forwards },
    guest: { address: guestNetwork.address, gateway: guestNetwork.gateway, dns: userModeDns },
    release: async () => {},
  };
}

async function forwardsOf(ports: readonly PortRecord[]) {
  const forwards = [];
  for (const { hostAddress, host, guest } of ports) {
    forwards.push({
      hostAddress,
      hostPort: host === 0 ? await freePort(hostAddress) : host,
      guestPort: guest,
    });
  }
  return forwards;
}

/** A port that is free now. QEMU binds it a moment later, and fails should another have been quicker. */
async function freePort(address: string): Promise<number> {
  const server = net.createServer().listen(0, address);
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function requirePool(pool: NetworkPool | undefined): NetworkPool {
  if (pool !== undefined) return pool;
  throw new SporeletError({
    code: "unsupported",
    operation: "make a network namespace",
    reason: "this needs root",
    hint: "run spored as root",
  });
}
