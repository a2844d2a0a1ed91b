import { createHash, randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { SporeletError } from "@sporelet/errors";
import { channelSession } from "./agent-session.ts";
import { encodeFrame, readFrame, skipThrough } from "./frame.ts";
import {
  type AgentError,
  AgentService,
  HelloKind,
  type HelloReply,
  HelloReplySchema,
  HelloSchema,
} from "./gen/sporelet/agent/v1/agent_pb.ts";
import { beginContact, nanoseconds, settleClock } from "./guest-clock.ts";
import { createWallClock } from "./wall-clock.ts";

/** Version of the agent protocol that this client speaks; an agent refuses any other. */
export const agentProtocol = 1;

/** Entropy that a Hello carries when the caller gives none: twice what the guest kernel's generator holds. */
const entropyBytes = 64;

/** How long first contact may take when the caller sets no limit, milliseconds. */
const defaultTimeoutMs = 30_000;

export type HelloInit = MessageInitShape<typeof HelloSchema>;
export type AgentClient = Client<typeof AgentService>;

/**
 * The bytes that open a connection to an agent. Protocol, wall clock (now) and entropy (fresh) are filled
 * in where absent, so make it as late as possible.
 */
export function helloFrame(hello: HelloInit): Uint8Array {
  return greeting(hello).bytes;
}

/**
 * What to send, and what comes before the answer. Both ends of a reconnect are marked (see agent.proto), so
 * that what is left of a connection before is told from it.
 */
function greeting(hello: HelloInit): { bytes: Uint8Array; answerMarker: Uint8Array } {
  const message = create(HelloSchema, hello);
  if (message.protocol === 0) message.protocol = agentProtocol;
  if (message.wallClockNs === 0n) message.wallClockNs = nanoseconds(hostClockMs());
  if (message.entropy.length === 0) message.entropy = randomBytes(entropyBytes);
  const body = toBinary(HelloSchema, message);
  const frame = encodeFrame(body);
  if (message.kind !== HelloKind.RECONNECT || message.generationId === "") {
    return { bytes: frame, answerMarker: new Uint8Array() };
  }
  const marker = digest(Buffer.from(`sporelet reconnect ${message.generationId}`));
  return { bytes: Buffer.concat([marker, frame]), answerMarker: digest(body) };
}

function digest(of: Uint8Array): Uint8Array {
  return createHash("sha256").update(of).digest().subarray(0, 16);
}

/** The clock that guests' clocks are set by, milliseconds. */
const hostClockMs = createWallClock();

export interface FirstContactOptions {
  signal?: AbortSignal | undefined;
  /** Default: 30,000. Hooks of the guest run within it. */
  timeoutMs?: number | undefined;
}

/**
 * Makes first contact: sends `hello`, unless it is "sent" (a slot writes it before the guest runs), waits for the
 * answer, and sees to it that the guest's clock is right to 10 ms (of one that was booted or resumed). Throws `guest_failed` with the hook's output as log when the guest did not become
 * what it should, `incompatible` when it speaks another protocol, `deadline_exceeded`, or `unavailable`
 * when the channel ends.
 */
export async function firstContact(
  channel: Duplex,
  hello: HelloInit | "sent",
  options: FirstContactOptions = {},
): Promise<HelloReply> {
  const operation = "make first contact with the guest agent";
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  const limit = AbortSignal.timeout(timeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  using contact = beginContact();
  try {
    if (hello !== "sent") {
      const { bytes, answerMarker } = greeting(hello);
      channel.write(bytes);
      await skipThrough(channel, answerMarker, signal);
    }
    const answer = await readFrame(channel, signal);
    const receivedMs = hostClockMs();
    const reply = fromBinary(HelloReplySchema, answer);
    if (reply.error) throw contactFailed(operation, reply.error);
    const clock = { contact, now: hostClockMs, protocol: agentProtocol, signal };
    return await settleClock(channel, reply, receivedMs, clock);
  } catch (error) {
    if (limit.aborted && error === limit.reason) {
      throw new SporeletError({
        code: "deadline_exceeded",
        operation,
        reason: `it did not answer within ${timeoutMs} ms`,
        hint: "the guest's console log tells how far it got",
        cause: error,
      });
    }
    throw SporeletError.from(error, { operation });
  }
}

function contactFailed(operation: string, error: AgentError): SporeletError {
  return new SporeletError({
    code: error.code === "protocol" ? "incompatible" : "guest_failed",
    operation,
    reason: error.code.startsWith("hook") ? `the hook ${error.message}` : `${error.code}: ${error.message}`,
    hint: error.code === "protocol" ? "rebuild the snapshot with this version" : undefined,
    log: error.output || undefined,
  });
}

/** Calls to one agent, over one channel. */
export interface AgentConnection extends AsyncDisposable {
  readonly client: AgentClient;
  /** Settles when the channel has ended, for whatever reason. */
  readonly closed: Promise<void>;
  /** Ends the connection: calls under way fail, programs that they ran are killed. The channel is closed. */
  close(): Promise<void>;
}

/**
 * Makes the client for a channel on which first contact was made. It owns the channel from here on.
 * Errors of its calls are ConnectErrors; `fromConnectError` turns them into SporeletErrors.
 */
export function connectAgent(channel: Duplex): AgentConnection {
  const session = channelSession(channel);
  const transport = createConnectTransport({
    httpVersion: "2",
    baseUrl: session.authority,
    sessionManager: session,
    // A local channel: compressing costs more than it saves.
    acceptCompression: [],
  });
  return {
    client: createClient(AgentService, transport),
    closed: session.closed,
    close: session.close,
    [Symbol.asyncDispose]: session.close,
  };
}
