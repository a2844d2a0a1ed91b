/**
 * Calls over a Unix socket, one line of JSON each way, between spored and its server of lazy files. Both are the
 * same version on the same host, and trust each other: the socket is in a directory of this user alone.
 */
import { once } from "node:events";
import { createServer, connect as openSocket, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { type ErrorCode, SporeletError } from "@sporelet/errors";

type Message =
  | { id: number; call: string; argument?: unknown }
  | { id: number; ok: unknown }
  | { id: number; error: Record<string, string | undefined> }
  | { event: unknown };

export interface RpcServer extends AsyncDisposable {
  /** Tells all who are connected. */
  tell(event: unknown): void;
  readonly connections: number;
}

/** @param onConnections called when somebody came or went. */
export async function serveRpc(
  socketPath: string,
  handlers: Record<string, (argument: never) => unknown>,
  onConnections: (connections: number) => void = () => {},
): Promise<RpcServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => {
      sockets.delete(socket);
      onConnections(sockets.size);
    });
    onConnections(sockets.size);
    readLines(socket, async (message) => {
      if (!("call" in message)) return;
      const { id, call, argument } = message;
      try {
        const handler = handlers[call];
        if (handler === undefined) throw new TypeError(`there is no call ${call}`);
        send(socket, { id, ok: (await handler(argument as never)) ?? null });
      } catch (error) {
        const ours = SporeletError.from(error, { operation: call });
        send(socket, { id, error: ours.toJSON() });
      }
    });
  });
  server.listen(socketPath);
  await once(server, "listening");
  return {
    tell(event) {
      for (const socket of sockets) send(socket, { event });
    },
    get connections() {
      return sockets.size;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      // What was said to somebody last is to arrive.
      for (const socket of sockets) socket.end();
      await closed;
    },
  };
}

export interface RpcClient extends Disposable {
  /** @throws SporeletError as the handler threw it; `unavailable` when the connection is lost. */
  call<T>(name: string, argument?: unknown): Promise<T>;
  /** Settles when the connection has ended. */
  readonly closed: Promise<void>;
}

/** @throws SporeletError `unavailable` when nobody listens. */
export async function connectRpc(
  socketPath: string,
  context: { operation: string; subject: string },
  onEvent: (event: unknown) => void = () => {},
): Promise<RpcClient> {
  const lost = (reason: string, cause?: unknown) =>
    new SporeletError({ ...context, code: "unavailable", reason, cause });
  const socket = openSocket(socketPath);
  await once(socket, "connect").catch((error) => {
    throw lost("its server does not answer", error);
  });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: unknown): void }>();
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  socket.on("error", () => {});
  socket.once("close", () => {
    for (const { reject } of waiting.values()) reject(lost("its server ended"));
    waiting.clear();
    close();
  });
  readLines(socket, (message) => {
    if ("event" in message) return onEvent(message.event);
    const caller = waiting.get(message.id);
    waiting.delete(message.id);
    if ("ok" in message) caller?.resolve(message.ok);
    if ("error" in message) caller?.reject(errorFrom(message.error));
  });
  let lastId = 0;
  return {
    closed,
    call<T>(name: string, argument?: unknown) {
      if (socket.destroyed) return Promise.reject(lost("its server ended"));
      lastId += 1;
      const id = lastId;
      return new Promise<T>((resolve, reject) => {
        waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
        send(socket, { id, call: name, argument });
      });
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

export function errorFrom(fields: Record<string, string | undefined>): SporeletError {
  const { code = "internal", operation = "call", reason = "", ...rest } = fields;
  return new SporeletError({ ...rest, code: code as ErrorCode, operation, reason });
}

function send(socket: Socket, message: Message): void {
  if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
}

function readLines(socket: Socket, onMessage: (message: Message) => void): void {
  const lines = createInterface({ input: socket });
  lines.on("line", (line) => onMessage(JSON.parse(line) as Message));
  lines.on("error", () => {}); // The socket's: its close tells of it.
}
