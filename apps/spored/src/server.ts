import { once } from "node:events";
import { rm } from "node:fs/promises";
import http2 from "node:http2";
import {
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { fromConnectError, streamWindowBytes, toConnectError } from "@sporelet/api";
import type { Activity } from "./activity.ts";
import type { Log } from "./log.ts";
import type { Settling } from "./settling.ts";

/** When the request arrived, on the clock of `performance.now()`: what `readyMs` is counted from. */
export const arrivedAt = createContextKey(0, { description: "arrival of the request" });

/** The connection that a call came over, told by identity. */
export const connectionOf = createContextKey<object | undefined>(undefined, {
  description: "connection of the call",
});

export interface ServerOptions {
  socket: string;
  routes: (router: ConnectRouter) => void;
  activity: Activity;
  settling: Settling;
  log: Log;
}

export interface Server extends AsyncDisposable {}

/**
 * Serves Connect over HTTP/2 with prior knowledge on a Unix socket that only this user may open. Disposing
 * of it ends the calls that still run: their signals abort.
 */
export async function serve(options: ServerOptions): Promise<Server> {
  const { socket, routes } = options;
  const shutdown = new AbortController();
  const handler = connectNodeAdapter({
    routes,
    interceptors: [journal(options)],
    acceptCompression: [],
    shutdownSignal: shutdown.signal,
    contextValues: (request) =>
      createContextValues().set(arrivedAt, performance.now()).set(connectionOf, sessionOf(request)),
  });
  const server = http2.createServer({ settings: { initialWindowSize: streamWindowBytes } }, handler);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.setLocalWindowSize(streamWindowBytes);
    session.once("close", () => sessions.delete(session));
    session.on("error", () => {}); // A client that vanished; its calls' signals abort.
  });
  // What a spored that was killed has left; the lock says that no other one serves here.
  await rm(socket, { force: true });
  const mask = process.umask(0o177);
  server.listen(socket);
  process.umask(mask);
  await once(server, "listening");
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      shutdown.abort();
      // Sessions end when their last stream has; what hangs longer than that is cut.
      for (const session of sessions) session.close();
      const cut = setTimeout(() => {
        for (const session of sessions) session.destroy();
      }, 2000);
      await closed;
      clearTimeout(cut);
      await rm(socket, { force: true });
    },
  };
}

function sessionOf(request: object): object | undefined {
  return "stream" in request ? (request.stream as http2.ServerHttp2Stream).session : undefined;
}

/** Counts calls as activity, knows which clear up, logs failed ones, and turns what they threw into errors with details. */
function journal({ activity, settling, log }: ServerOptions): Interceptor {
  return (next) => async (request) => {
    const calls = new DisposableStack();
    calls.use(activity.begin());
    // Whoever asks for it to be settled is not waited for.
    if (request.method.name !== "Settle") {
      calls.use(settling.begin(request.signal, request.contextValues.get(connectionOf)));
    }
    const began = performance.now();
    const failed = (error: unknown) => {
      const converted = toConnectError(error, { operation: `serve ${request.method.name}` });
      const ours = fromConnectError(converted, { operation: request.method.name });
      const fields = { call: request.method.name, elapsedMs: Math.round(performance.now() - began) };
      if (ours.code === "internal") log.error("call failed", ours, fields);
      else log.info("call failed", { ...fields, code: ours.code, error: ours.message });
      return converted;
    };
    try {
      const response = await next(request);
      if (!response.stream) {
        calls.dispose();
        return response;
      }
      return { ...response, message: guarded(response.message, failed, calls) };
    } catch (error) {
      calls.dispose();
      throw failed(error);
    }
  };
}

async function* guarded<T>(
  messages: AsyncIterable<T>,
  failed: (error: unknown) => unknown,
  calls: Disposable,
): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw failed(error);
  } finally {
    calls[Symbol.dispose]();
  }
}
