import { createServer, isIP, type Server, Socket } from "node:net";
import { SporeletError } from "@sporelet/errors";
import { type NetnsHandle, openNetns } from "../network/netns.ts";
import { listenerOf } from "./listener.ts";

/** Where the connections of a published port go. */
export interface PortTarget {
  /** Path of the network namespace in which the address is. Default: this process's own. */
  netns?: string | undefined;
  /** An IP address: names are not looked up. */
  address: string;
  port: number;
}

export interface PublishOptions {
  /** An IP address of this host. */
  hostAddress: string;
  /** 0 lets the kernel choose one. */
  hostPort: number;
  /** Default: nowhere yet; connections are held until there is one. */
  target?: PortTarget | undefined;
  /** How long a guest has to take a connection, which it does not while it is paused. Default: 30,000. */
  connectTimeoutMs?: number | undefined;
  /** Told of each connection as it comes, held or not; what it returns is disposed of when that is over. */
  onConnection?: (() => Disposable | undefined) | undefined;
}

export interface PublishedPort extends AsyncDisposable {
  hostPort: number;
  /** How many connections wait for a target. */
  readonly held: number;
  /**
   * From now on connections go there, those that are held first.
   * @throws SporeletError `not_found` when there is no such namespace
   */
  point(target: PortTarget): void;
  /** From now on connections are held: accepted, and not read from. Those that were passed on go on. */
  hold(): void;
  /** Ends the connections that were passed on: their guest is gone. Those that are held stay. */
  cut(): void;
  /** Resets the connections that are held: there will be no target for them. */
  refuse(): void;
  /** Ends the connections too. */
  close(): Promise<void>;
}

/**
 * Makes a TCP port of a guest reachable on a port of this host, byte for byte: either side may close its
 * half and go on listening, a slow reader slows the writer, and a connection that the guest refuses or resets
 * is reset for the client.
 *
 * The connections begin in the clone's network namespace, so neither routes nor rules on the host know of
 * them, and two clones with one address do not meet.
 *
 * @throws SporeletError `already_exists` when the port is taken, with who has it if that can be told;
 *   `permission_denied` for ports below 1024 without root; `invalid_argument` for addresses that are not
 *   this host's; `not_found` when there is no such namespace.
 */
export async function publishPort(options: PublishOptions): Promise<PublishedPort> {
  const { hostAddress, hostPort, target, connectTimeoutMs = 30_000, onConnection } = options;
  const held = new Set<Socket>();
  const passedOn = new Set<Socket>();
  let current: OpenTarget | undefined;
  const track = (socket: Socket) => {
    passedOn.add(socket);
    socket.once("close", () => passedOn.delete(socket));
  };
  const passOn = (client: Socket, { netns, address, port }: OpenTarget) => {
    track(client);
    try {
      const guest = connectGuest(netns, address, port);
      track(guest);
      join(client, guest, connectTimeoutMs);
    } catch {
      // No descriptors left, or the namespace was taken down: the same to the client as a refusal.
      client.resetAndDestroy();
    }
  };
  // Half-open: the end of one direction is passed on as such. Paused: nothing is read before there is a guest.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (client) => {
    client.on("error", () => {}); // "close" follows.
    if (current === undefined) held.add(client);
    const watching = onConnection?.();
    client.once("close", () => {
      held.delete(client);
      watching?.[Symbol.dispose]();
    });
    if (current !== undefined) passOn(client, current);
  });
  const aim = (next: OpenTarget | undefined) => {
    current?.netns?.[Symbol.dispose]();
    current = next;
  };

  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => aim(undefined));
  if (target !== undefined) aim(openTarget(target));
  await listen(server, hostAddress, hostPort);
  cleanup.defer(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of [...passedOn, ...held]) socket.destroy();
    await closed;
  });
  const address = server.address();
  const owned = cleanup.move();
  const close = () => owned.disposeAsync();
  return {
    hostPort: typeof address === "object" && address !== null ? address.port : hostPort,
    get held() {
      return held.size;
    },
    point(next) {
      const opened = openTarget(next);
      aim(opened);
      const waiting = [...held];
      held.clear();
      for (const client of waiting) passOn(client, opened);
    },
    hold: () => aim(undefined),
    cut() {
      for (const socket of passedOn) socket.destroy();
    },
    refuse() {
      for (const client of held) client.resetAndDestroy();
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

interface OpenTarget {
  netns: NetnsHandle | undefined;
  address: string;
  port: number;
}

function openTarget({ netns, address, port }: PortTarget): OpenTarget {
  if (isIP(address) === 0) throw new TypeError(`not an IP address: ${address}`);
  return { netns: netns === undefined ? undefined : openNetns(netns), address, port };
}

/**
 * Finds out whether a port can be published by listening on it for a moment.
 * @throws SporeletError as `publishPort`.
 */
export async function requireFreePort(hostAddress: string, hostPort: number): Promise<void> {
  const server = createServer();
  await listen(server, hostAddress, hostPort);
  await new Promise((resolve) => server.close(resolve));
}

/** A socket belongs to the namespace in which it was created, wherever it is connected from afterwards. */
function connectGuest(netns: NetnsHandle | undefined, address: string, port: number): Socket {
  const family = isIP(address) === 6 ? 6 : 4;
  const guest =
    netns === undefined
      ? new Socket({ allowHalfOpen: true })
      : new Socket({ fd: netns.tcpSocket(family), allowHalfOpen: true });
  guest.setNoDelay(true);
  // In the same turn as the socket's creation, before the event loop looks at it: it is not connected yet.
  return guest.connect({ host: address, port, family, autoSelectFamily: false });
}

function join(client: Socket, guest: Socket, connectTimeoutMs: number): void {
  const timer = setTimeout(() => guest.destroy(new Error("the guest took too long")), connectTimeoutMs);
  const resetOther = (socket: Socket, other: Socket) => {
    socket.once("error", () => other.resetAndDestroy());
    // Closed without an error and without having ended: destroyed by `close`.
    socket.once("close", () => {
      if (!socket.readableEnded) other.destroy();
    });
  };
  resetOther(client, guest);
  resetOther(guest, client);
  guest.once("close", () => clearTimeout(timer));
  guest.once("connect", () => {
    clearTimeout(timer);
    // pipe slows the source down to the pace of the sink, and ends the sink when the source ends.
    client.pipe(guest);
    guest.pipe(client);
  });
}

async function listen(server: Server, address: string, port: number): Promise<void> {
  const context = { operation: "publish the port", subject: `${address}:${port}` };
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: address, port, exclusive: true }, () => resolve());
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE") {
      const listener = await listenerOf(port).catch(() => undefined);
      throw new SporeletError({
        ...context,
        code: "already_exists",
        reason: `${listener ?? "another process"} listens on it`,
        hint: "choose another host port, or 0 for any that is free",
        cause: error,
      });
    }
    if (code === "EADDRNOTAVAIL") {
      const reason = `${address} is not an address of this host`;
      throw new SporeletError({ ...context, code: "invalid_argument", reason, cause: error });
    }
    throw SporeletError.from(error, context);
  }
}
