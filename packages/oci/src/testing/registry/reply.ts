import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import type { Fault, RecordedRequest } from "./faults.ts";

/** An answer before it is sent. */
export interface Reply {
  status: number;
  headers?: Record<string, string>;
  body?: Buffer;
}

/** A request with all that its handlers need. */
export interface Exchange {
  request: RecordedRequest;
  incoming: IncomingMessage;
  url: URL;
  fault: Fault;
  /** The body; what arrives before the connection ends is passed on even so. */
  read(onPart?: (part: Buffer) => void): Promise<Buffer>;
}

/** An error as distribution-spec 1.1 has it. */
export function errorReply(status: number, code: string, message: string, headers = {}): Reply {
  const body = Buffer.from(JSON.stringify({ errors: [{ code, message }] }));
  return { status, headers: { "content-type": "application/json", ...headers }, body };
}

export function exchangeOf(incoming: IncomingMessage, request: RecordedRequest, fault: Fault): Exchange {
  const url = new URL(request.path, "http://registry.invalid");
  const read = async (onPart: (part: Buffer) => void = () => undefined): Promise<Buffer> => {
    const parts: Buffer[] = [];
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      const room = (fault.dropUploadAfterBytes ?? Number.POSITIVE_INFINITY) - request.receivedBytes;
      const part = chunk.subarray(0, Math.max(0, Math.min(chunk.length, room)));
      request.receivedBytes += part.length;
      parts.push(part);
      onPart(part);
      if (request.receivedBytes >= (fault.dropUploadAfterBytes ?? Number.POSITIVE_INFINITY)) {
        incoming.destroy();
        throw new Error("dropped, as the fault wants it");
      }
    }
    return Buffer.concat(parts);
  };
  return { request, incoming, url, fault, read };
}

/** Sends an answer with all that is to go wrong with it. */
export async function send(
  response: ServerResponse,
  reply: Reply,
  { request, fault }: Exchange,
): Promise<void> {
  const { body, headers } = spoiled(reply, fault);
  if (fault.dropAfterBytes === 0) {
    response.destroy();
    return;
  }
  request.status = reply.status;
  response.writeHead(reply.status, {
    // With a length a client would see that there is too much before it reads.
    ...(fault.appendBytes === undefined ? { "content-length": String(body.length) } : {}),
    ...headers,
    ...fault.headers,
  });
  if (request.method === "HEAD") {
    response.end();
    return;
  }
  const stop = Math.min(
    body.length,
    fault.dropAfterBytes ?? body.length,
    fault.stallAfterBytes ?? body.length,
  );
  const step = Math.max(1, Math.floor((fault.bytesPerSecond ?? Number.POSITIVE_INFINITY) / 20));
  const closed = new Promise<void>((resolve) => response.once("close", resolve));
  for (let at = 0; at < stop && !response.destroyed; at += step) {
    const part = body.subarray(at, Math.min(stop, at + step));
    await Promise.race([closed, new Promise<void>((resolve) => response.write(part, () => resolve()))]);
    request.sentBytes += part.length;
    if (fault.bytesPerSecond !== undefined) await delay(50);
  }
  if (fault.stallAfterBytes !== undefined) return;
  if (fault.dropAfterBytes !== undefined) response.destroy();
  else response.end();
}

function spoiled(reply: Reply, fault: Fault): { body: Buffer; headers: Record<string, string> } {
  let body = reply.body ?? Buffer.alloc(0);
  const headers = { ...reply.headers };
  if (fault.truncateToBytes !== undefined) body = body.subarray(0, fault.truncateToBytes);
  if (fault.appendBytes !== undefined) {
    body = Buffer.concat([body, Buffer.alloc(fault.appendBytes)]);
  }
  if (fault.damage && body.length > 0) {
    body = Buffer.from(body);
    const middle = body.length >> 1;
    body.writeUInt8(body.readUInt8(middle) ^ 1, middle);
  }
  return { body, headers };
}
