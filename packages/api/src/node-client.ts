import net from "node:net";
import type { CallOptions, Client, Transport } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { SporeletError } from "@sporelet/errors";
import { type CallContext, fromConnectError } from "./errors.ts";
import { NodeService } from "./gen/sporelet/node/v1/node_pb.ts";

/** HTTP/2 window for bulk data (exec output, tar streams): the default of 64 KiB costs a round trip each. */
export const streamWindowBytes = 4 << 20;

export interface NodeClientOptions {
  /** Unix socket of spored; see `locateNode`. */
  socketPath: string;
}

/**
 * Calls spored. Every failure is a SporeletError, equal to the one that was thrown in spored; a spored that
 * is not there is `unavailable`. Leaving a `for await` over a stream early cancels the call. Dispose of the
 * client (`using`) to close its connection, which otherwise keeps the process alive.
 */
export type NodeClient = Client<typeof NodeService> & Disposable;

/**
 * Makes a client of the spored that listens on a Unix socket. The connection is opened by the first call.
 */
export function nodeClient(options: NodeClientOptions): NodeClient {
  const sessionManager = new Http2SessionManager(
    "http://spored",
    {},
    {
      createConnection: () => net.connect(options.socketPath),
      settings: { initialWindowSize: streamWindowBytes },
    },
  );
  const transport = createConnectTransport({
    httpVersion: "2",
    baseUrl: "http://spored",
    sessionManager,
    // Local: compressing costs more than it saves.
    acceptCompression: [],
  });
  const client = sporeletErrors(createNodeClient(transport), options.socketPath);
  return Object.assign(client, { [Symbol.dispose]: () => sessionManager.abort() });
}

function createNodeClient(transport: Transport): Client<typeof NodeService> {
  return createClient(NodeService, transport);
}

type AnyMethod = (input: unknown, options?: CallOptions) => Promise<unknown> | AsyncIterable<unknown>;

/** Wraps every method so that it throws SporeletErrors, and streams so that leaving them cancels the call. */
function sporeletErrors(client: Client<typeof NodeService>, socketPath: string): Client<typeof NodeService> {
  const methods = client as unknown as Record<string, AnyMethod>;
  const wrapped: Record<string, AnyMethod> = {};
  for (const { localName, name, methodKind } of NodeService.methods) {
    const call = methods[localName] as AnyMethod;
    const convert = (error: unknown) => describe(error, { operation: `call ${name} of spored` }, socketPath);
    wrapped[localName] =
      methodKind === "unary" || methodKind === "client_streaming"
        ? async (input, options) => {
            try {
              return await (call(input, options) as Promise<unknown>);
            } catch (error) {
              throw convert(error);
            }
          }
        : (input, options) => cancelledWhenLeft(call, input, options, convert);
  }
  return wrapped as unknown as Client<typeof NodeService>;
}

async function* cancelledWhenLeft(
  call: AnyMethod,
  input: unknown,
  options: CallOptions | undefined,
  convert: (error: unknown) => SporeletError,
): AsyncGenerator<unknown> {
  const left = new AbortController();
  const signal = options?.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
  try {
    yield* call(input, { ...options, signal }) as AsyncIterable<unknown>;
  } catch (error) {
    throw convert(error);
  } finally {
    left.abort();
  }
}

function describe(error: unknown, context: CallContext, socketPath: string): SporeletError {
  const ours = fromConnectError(error, context);
  const cause = ours.cause instanceof Error ? (ours.cause.cause ?? ours.cause) : ours.cause;
  // A socket that is gone, as when spored ends itself at this moment: Connect has no code for that.
  const isGone = cause instanceof Error && (cause as NodeJS.ErrnoException).syscall === "connect";
  if ((ours.code !== "unavailable" && !isGone) || ours.operation !== context.operation) return ours;
  return new (ours.constructor as typeof SporeletError)({
    code: "unavailable",
    operation: "reach spored",
    subject: `at ${socketPath}`,
    reason: cause instanceof Error ? cause.message : ours.reason,
    hint: "any sporectl command starts it; its log is spored.log in SPORELET_HOME",
    cause: ours.cause,
  });
}
