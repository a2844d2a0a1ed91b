import { SporeletError } from "@sporelet/errors";
import {
  guestNetwork,
  type PortTarget,
  type PublishedPort,
  publishPort,
  requireFreePort,
} from "@sporelet/host";
import type { NetworkRecord, PortRecord } from "./record.ts";
import { together } from "./together.ts";

/** The published ports of one machine. */
export interface PublishedPorts {
  /** As asked for, with the host ports that were chosen. */
  ports: PortRecord[];
  /** How many connections wait for the machine. */
  readonly held: number;
  /** From now on connections wait. */
  hold(): void;
  /** From now on they go to the machine, those that wait first. */
  point(network: NetworkRecord): void;
  /** Ends the connections that the machine had: it is gone. */
  cut(): void;
  /** Resets those that wait. */
  refuse(): void;
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
 *
 * @param network undefined for a machine that does not run: connections wait until `point`
 * @param onConnection told of each connection; what it returns is disposed of when that is over
 * @throws SporeletError `already_exists` when a port is in use
 */
export async function publishPorts(
  ports: readonly PortRecord[],
  network: NetworkRecord | undefined,
  onConnection?: () => Disposable | undefined,
): Promise<PublishedPorts> {
  if (network?.kind === "user") {
    return unmovable(
      network.forwards.map(({ hostAddress, hostPort, guestPort }) => ({
        ...{ hostAddress, host: hostPort, guest: guestPort },
      })),
    );
  }
  if (ports.length === 0) return unmovable([]);
  const targetOf = (guest: number) => network && targetIn(network, guest);
  await using undo = new AsyncDisposableStack();
  const published = await together(
    ports.map(async ({ hostAddress, host, guest }) => {
      const port = await publishPort({ hostAddress, hostPort: host, target: targetOf(guest), onConnection });
      undo.defer(() => port.close());
      return { port, record: { hostAddress, host: port.hostPort, guest } };
    }),
  );
  const opened = undo.move();
  const each = (action: (port: PublishedPort, guest: number) => void) => {
    for (const { port, record } of published) action(port, record.guest);
  };
  return {
    ports: published.map(({ record }) => record),
    get held() {
      return published.reduce((sum, { port }) => sum + port.held, 0);
    },
    hold: () => each((port) => port.hold()),
    point: (next) => each((port, guest) => port.point(targetIn(next, guest))),
    cut: () => each((port) => port.cut()),
    refuse: () => each((port) => port.refuse()),
    close: () => opened.disposeAsync(),
  };
}

function targetIn(network: NetworkRecord, port: number): PortTarget {
  if (network.kind !== "netns") {
    throw new SporeletError({
      code: "failed_precondition",
      operation: "publish ports",
      reason: "this snapshot has no network",
    });
  }
  const address = guestNetwork.address.slice(0, guestNetwork.address.indexOf("/"));
  return { netns: network.netns, address, port };
}

/** Ports that are somebody else's, or none. */
function unmovable(ports: PortRecord[]): PublishedPorts {
  const nothing = () => {};
  return {
    ...{ ports, held: 0, hold: nothing, point: nothing, cut: nothing, refuse: nothing },
    close: async () => {},
  };
}
