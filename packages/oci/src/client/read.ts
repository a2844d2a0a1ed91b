import { SporeletError } from "@sporelet/errors";
import type { Descriptor } from "../descriptor.ts";
import { sha256 } from "../digest.ts";
import { corrupt } from "../json.ts";
import { addressOf, type Operation, operationOn, pullScope, type RepositoryContext } from "./call.ts";
import type { Answer } from "./exchange.ts";
import { type OperationContext, Transient } from "./retry.ts";

export interface StreamOptions {
  /** First byte. Default: 0. */
  offset?: number | undefined;
  /** Default: all that follows. */
  length?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Blobs that are read as a whole into memory are not larger, unless the caller allows it. */
const defaultMaxBytes = 64 * 1024 * 1024;

/**
 * The bytes of a blob, or of a part of it. A connection that drops is taken up again at the byte where it
 * stopped. What arrives is not verified: that is up to the caller, who knows digests of parts.
 */
export async function* streamBlob(
  repository: RepositoryContext,
  descriptor: Descriptor,
  options: StreamOptions,
): AsyncGenerator<Buffer> {
  const { digest, size } = descriptor;
  const { offset = 0, length = size - offset, signal } = options;
  const operation = operationOn(repository, {
    operation: "read the blob",
    subject: `${repository.name}@${digest}`,
    scopes: [pullScope(repository)],
    signal,
  });
  const end = offset + length;
  if (!(offset >= 0) || !(length >= 0) || end > size) {
    const reason = `bytes ${offset} to ${end} are not within its ${size}`;
    throw new SporeletError({ ...operation.context, code: "invalid_argument", reason });
  }
  const read = { repository, operation, descriptor };
  for (let at = offset; at < end; ) {
    try {
      for await (const chunk of readFrom(read, at, end)) {
        at += chunk.length;
        operation.attempts.progressed();
        yield chunk;
      }
    } catch (failure) {
      await operation.attempts.failed(failure);
    }
  }
}

/** A small blob as a whole, verified. */
export async function readBlob(
  repository: RepositoryContext,
  descriptor: Descriptor,
  options: { signal?: AbortSignal | undefined; maxBytes?: number | undefined },
): Promise<Buffer> {
  const { digest, size, data } = descriptor;
  const { signal, maxBytes = defaultMaxBytes } = options;
  const context = { operation: "read the blob", subject: `${repository.name}@${digest}` };
  if (size > maxBytes)
    throw corrupt(context, `it claims ${size} bytes; at most ${maxBytes} are allowed here`);
  const inline = data === undefined ? undefined : Buffer.from(data, "base64");
  if (inline !== undefined && inline.length === size && sha256(inline) === digest) return inline;
  const bytes = Buffer.alloc(size);
  let at = 0;
  for await (const chunk of streamBlob(repository, descriptor, { signal })) at += chunk.copy(bytes, at);
  const actual = sha256(bytes);
  if (actual !== digest) throw corrupt(context, `what the registry sent has the digest ${actual}`);
  return bytes;
}

interface Read {
  repository: RepositoryContext;
  operation: Operation;
  descriptor: Descriptor;
}

/** One request for the bytes from `at` to `end`; ends early only by throwing. */
async function* readFrom(read: Read, at: number, end: number): AsyncGenerator<Buffer> {
  const { repository, operation, descriptor } = read;
  const { context } = operation;
  const part = at > 0 || end < descriptor.size;
  const ranged = part && repository.ranges.served !== false;
  const answer = await operation.once({
    method: "GET",
    url: addressOf(repository, `blobs/${descriptor.digest}`),
    headers: {
      // Sizes and offsets are those of the blob and not of what a proxy makes of it.
      "accept-encoding": "identity",
      ...(ranged ? { range: `bytes=${at}-${end - 1}` } : {}),
    },
    expect: [200, 206, 416],
    remember: ranged,
  });
  if (answer.status === 416) {
    await answer.discard();
    throw corrupt(context, `${answer.url.host} has fewer than its ${descriptor.size} bytes`);
  }
  const begin = answer.status === 206 ? checkPart(answer, at, end, descriptor.size, context) : 0;
  if (answer.status === 200) {
    if (ranged) repository.ranges.served = false;
    checkWhole(answer, descriptor.size, context);
  } else {
    repository.ranges.served = true;
  }
  yield* slice(answer, { begin, at, end }, descriptor.size, context);
}

/** The bytes from `at` to `end` of a body that starts at `begin`. */
async function* slice(
  answer: Answer,
  { begin, at, end }: { begin: number; at: number; end: number },
  size: number,
  context: OperationContext,
): AsyncGenerator<Buffer> {
  let position = begin;
  for await (const chunk of answer.body()) {
    const from = Math.max(0, at - position);
    const to = Math.min(chunk.length, end - position);
    position += chunk.length;
    if (position > size) throw corrupt(context, `${answer.url.host} sends more than its ${size} bytes`);
    if (from < to) yield chunk.subarray(from, to);
    // The rest of a registry without ranges is of no use.
    if (position >= end && end < size) return;
  }
  if (position >= end) return;
  const reason = `${answer.url.host} ended the connection after ${position} of ${size} bytes`;
  throw new Transient(new SporeletError({ ...context, code: "unavailable", reason }));
}

function checkPart(answer: Answer, at: number, end: number, size: number, context: OperationContext): number {
  const range = answer.header("content-range") ?? "no Content-Range";
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? [];
  // Less than was asked for is allowed (RFC 9110, 15.3.7): the next request asks for the rest.
  const fits = Number(first) === at && Number(last) >= at && Number(last) < end;
  if (!fits || (total !== "*" && Number(total) !== size)) {
    void answer.discard();
    const asked = `bytes ${at}-${end - 1}/${size}`;
    throw corrupt(
      context,
      `${answer.url.host} answered with ${JSON.stringify(range)} where "${asked}" was asked for`,
    );
  }
  return at;
}

function checkWhole(answer: Answer, size: number, context: OperationContext): void {
  const length = answer.header("content-length");
  const encoding = answer.header("content-encoding");
  if (encoding !== undefined && encoding !== "identity") {
    void answer.discard();
    throw corrupt(context, `${answer.url.host} sends it in the encoding ${JSON.stringify(encoding)}`);
  }
  if (length !== undefined && Number(length) !== size) {
    void answer.discard();
    throw corrupt(context, `${answer.url.host} has ${length} bytes of it, not ${size}`);
  }
}
