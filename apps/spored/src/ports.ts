import { SporeletError } from "@sporelet/errors";
import { guestNetwork, publishPort, requireFreePort } from "@sporelet/host";
import type { NetworkRecord, PortRecord } from "./record.ts";
import { together } from "./together.ts";

/** The published ports of one machine. */
export interface PublishedPorts {
  /** As asked for, with the host ports that were chosen. */
  ports: PortRecord[];
  close(): Promise<void>;
}

/** A port mapping as it comes in a request. */
export interface PortRequest {
  host: number;
  guest: number;
  hostAddress: string;
}

/** @throws SporeletError `invalid_argument` for ports that do not exist or are asked for twice. */
export function checkPorts(requests: readonly PortRequest[], count: number): PortRecord[] {
  const context = { operation: "publish ports" };
  const seen = new Set<string>();
  return requests.map(({ host, guest, hostAddress }) => {
    const record = { hostAddress: hostAddress || "127.0.0.1", host, guest };
    const subject = `${host}:${guest}`;
    if (guest < 1 || guest > 65535 || host > 65535) {
      throw new SporeletError({
        ...context,
        subject,
        code: "invalid_argument",
        reason: "ports go from 1 to 65535",
      });
    }
    if (host === 0) return record;
    if (host + count - 1 > 65535) {
      const reason = `${count} machines would need host ports up to ${host + count - 1}`;
      throw new SporeletError({ ...context, subject, code: "invalid_argument", reason });
    }
    for (let each = host; each < host + count; each++) {
      const key = `${record.hostAddress} ${each}`;
      if (seen.has(key)) {
        const reason = `host port ${each} would be used twice`;
        throw new SporeletError({ ...context, subject, code: "invalid_argument", reason });
      }
      seen.add(key);
    }
    return record;
  });
}

/** The ports of the clone with this index: host ports are counted up, free ones stay free. */
export function portsOfClone(ports: readonly PortRecord[], index: number): PortRecord[] {
  return ports.map((port) => (port.host === 0 ? port : { ...port, host: port.host + index }));
}

/**
 * Finds out early that a port is in use; whoever takes one afterwards is met when it is published.
 * @throws SporeletError `already_exists`, `permission_denied`
 */
export async function requireFreePorts(ports: readonly PortRecord[], count: number): Promise<void> {
  for (const { hostAddress, host } of ports) {
    if (host === 0) continue;
    for (let each = host; each < host + count; each++) {
      await requireFreePort(hostAddress, each);
    }
  }
}

/**
 * Publishes all ports of a machine, or none. In user mode the VMM has published them already.
 * @throws SporeletError `already_exists` when a port is in use
 */
export async function publishPorts(
  ports: readonly PortRecord[],
  network: NetworkRecord,
): Promise<PublishedPorts> {
  if (network.kind === "user") {
    const chosen = network.forwards.map(({ hostAddress, hostPort, guestPort }) => ({
      hostAddress,
      host: hostPort,
      guest: guestPort,
    }));
    return { ports: chosen, close: async () => {} };
  }
  if (network.kind === "none") {
    if (ports.length === 0) return { ports: [], close: async () => {} };
    throw new SporeletError({
      code: "failed_precondition",
      operation: "publish ports",
      reason: "this snapshot has no network",
    });
  }
  const address = guestNetwork.address.slice(0, guestNetwork.address.indexOf("/"));
  await using undo = new AsyncDisposableStack();
  const published = await together(
    ports.map(async ({ hostAddress, host, guest }) => {
      const target = { netns: network.netns, address, port: guest };
      const port = await publishPort({ hostAddress, hostPort: host, target });
      undo.defer(() => port.close());
      return { hostAddress, host: port.hostPort, guest };
    }),
  );
  const opened = undo.move();
  return { ports: [...published], close: () => opened.disposeAsync() };
}
