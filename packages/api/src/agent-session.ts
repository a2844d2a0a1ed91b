import http2 from "node:http2";
import type { Duplex } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ConnectTransportOptions } from "@connectrpc/connect-node";

/** Receive windows of the host: one stream alone can fill the channel, all together use bounded memory. */
const streamWindowBytes = 4 << 20;
const connectionWindowBytes = 16 << 20;

/** Frames as large as the agent's messages: each frame is a write to the guest's port. */
const maxFrameSize = 64 << 10;

type SessionManager = NonNullable<Extract<ConnectTransportOptions, { httpVersion: "2" }>["sessionManager"]>;

export interface ChannelSession extends SessionManager {
  readonly closed: Promise<void>;
  close(): Promise<void>;
}

/**
 * HTTP/2 on one given channel. In place of connect-node's own session manager, which would open a new
 * connection when this one ends, close it when idle, and leave the connection's window at 64 KiB.
 */
export function channelSession(channel: Duplex): ChannelSession {
  const authority = "http://agent";
  const session = http2.connect(authority, {
    createConnection: () => channel,
    settings: { initialWindowSize: streamWindowBytes, maxFrameSize, enablePush: false },
  });
  session.once("connect", () => {
    // Told in the next turn of the event loop: the session may be closed by then.
    if (!session.destroyed) session.setLocalWindowSize(connectionWindowBytes);
  });
  let failure: unknown;
  session.on("error", (error) => {
    failure ??= error;
  });
  const closed = new Promise<void>((resolve) => session.once("close", resolve));
  const channelClosed = new Promise<void>((resolve) => {
    if (channel.closed) resolve();
    else channel.once("close", () => resolve());
  });
  return {
    authority,
    closed,
    async request(method, path, headers, options) {
      if (session.closed || session.destroyed) {
        throw new ConnectError(
          "the channel to the guest agent is closed",
          Code.Unavailable,
          undefined,
          undefined,
          failure,
        );
      }
      return session.request({ ...headers, ":method": method, ":path": path }, options);
    },
    notifyResponseByteRead() {},
    async close() {
      session.destroy();
      channel.destroy();
      await Promise.all([closed, channelClosed]);
    },
  };
}
