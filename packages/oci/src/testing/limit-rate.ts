import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";

export interface LimitedAddress extends AsyncDisposable {
  /** `127.0.0.1:PORT`: what is behind it is the target, but slower. */
  readonly address: string;
  /** Bytes that have gone from the target to clients. */
  readonly sentBytes: number;
}

/**
 * A TCP proxy on loopback that lets no more through than a link of that speed would, in each direction, over all
 * connections together.
 *
 * @param options.target `host:port`
 * @param options.onPassed called whenever some bytes have got through, in either direction
 */
export async function limitRate(options: {
  target: string;
  bitsPerSecond: number;
  onPassed?: () => void;
}): Promise<LimitedAddress> {
  const [host = "", port = ""] = options.target.split(":");
  const bytesPerSecond = options.bitsPerSecond / 8;
  const [up, down] = [tokenBucket(bytesPerSecond), tokenBucket(bytesPerSecond)];
  const sockets = new Set<Socket>();
  let sentBytes = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(port), host);
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    }
    const count = (bytes: number) => {
      sentBytes += bytes;
      options.onPassed?.();
    };
    // Whichever end breaks, the other one is told by its own end.
    const join = (from: Socket, through: Transform, to: Socket) =>
      pipeline(from, through, to).catch(() => {
        from.destroy();
        to.destroy();
      });
    void join(client, limited(up, options.onPassed), upstream);
    void join(upstream, limited(down, count), client);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get sentBytes() {
      return sentBytes;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** What a link of that speed sends in 10 ms may go at once: timers are no finer than that. */
const burstMs = 10;

export interface TokenBucket {
  /** How long to wait before so many bytes may go. */
  delayFor(bytes: number, nowMs: number): number;
  /** What goes at once after a pause. */
  readonly burstBytes: number;
}

/** A link as an account of time: what is sent is paid for, and what was not used is lost but for one burst. */
export function tokenBucket(bytesPerSecond: number): TokenBucket {
  const burstBytes = Math.max(1500, (bytesPerSecond * burstMs) / 1000);
  /** When the link will have sent all that was taken. */
  let freeAtMs = 0;
  return {
    burstBytes,
    delayFor(bytes, nowMs) {
      freeAtMs = Math.max(freeAtMs, nowMs - burstMs) + (bytes / bytesPerSecond) * 1000;
      return Math.max(0, freeAtMs - nowMs);
    },
  };
}

function limited(bucket: TokenBucket, count: (bytes: number) => void = () => undefined): Transform {
  return new Transform({
    highWaterMark: 64 * 1024,
    async transform(chunk: Buffer, _encoding, done) {
      for (let at = 0; at < chunk.length; at += bucket.burstBytes) {
        const part = chunk.subarray(at, at + bucket.burstBytes);
        const delayMs = bucket.delayFor(part.length, performance.now());
        if (delayMs > 0) await delay(delayMs);
        count(part.length);
        this.push(part);
      }
      done();
    },
  });
}
