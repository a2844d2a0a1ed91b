/**
 * How far the wall clock of a guest is from the host's, and what to do about it.
 *
 * A guest sets its clock by a time that waited for it, and can only guess for how long (guest/agent/internal/port/
 * park.go): on a busy host it may be 100 ms wrong. Its answer says what its clock showed when that was written. By the
 * host's clock that was after the question was sent, and before the answer came; the difference from both is what the
 * guest's clock may be off by. When that is too much, or too uncertain, the guest is asked again, which takes much less
 * time than its first answer, and has its clock moved when it is known by how much.
 */
import type { Duplex } from "node:stream";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { SporeletError } from "@sporelet/errors";
import { encodeFrame, readFrame } from "./frame.ts";
import {
  HelloKind,
  type HelloReply,
  HelloReplySchema,
  HelloSchema,
} from "./gen/sporelet/agent/v1/agent_pb.ts";

/** What is promised of a guest's clock when it is handed over, milliseconds (docs/hazards/clocks.md). */
const promisedMs = 10;
/** What is aimed at, so that the promise still holds when it is looked at. */
const aimedMs = 5;
/** As near the guest's clock has to be to the arrival of its answer to be taken for right without a question. */
const agreeingMs = 4;
/** A guest of a busy host may be asked until one answer is quick enough; normally the first is. */
const patienceMs = 5_000;

/** The guest's clock is ahead of the host's by this, milliseconds; behind where it is negative. */
export interface Offset {
  least: number;
  most: number;
}

/** What an answer says of the guest's clock. @param receivedMs when it came, by the host's clock */
export function offsetIn(reply: HelloReply, receivedMs: number): Offset {
  const guestMs = milliseconds(reply.wallClockNs);
  const readMs = milliseconds(reply.hostClockNs) + reply.handlingUs / 1000;
  return { least: guestMs - receivedMs, most: guestMs - readMs };
}

/** What both say; the later one where they contradict each other, because one of the clocks was set meanwhile. */
export function both(earlier: Offset, later: Offset): Offset {
  const least = Math.max(earlier.least, later.least);
  const most = Math.min(earlier.most, later.most);
  return least <= most ? { least, most } : later;
}

/** Both are looked at from both sides: when the host's clock was set in between, the least is more than the most. */
function within({ least, most }: Offset, limitMs: number): boolean {
  return Math.abs(least) <= limitMs && Math.abs(most) <= limitMs;
}

/** First contacts that are under way in this process. */
const underWay = new Set<Contact>();

/** One first contact: whether others were made beside it. */
export interface Contact extends Disposable {
  alone: boolean;
}

/** To be called when a first contact begins; dispose of it when that has ended. */
export function beginContact(): Contact {
  const contact: Contact = {
    alone: underWay.size === 0,
    [Symbol.dispose]: () => void underWay.delete(contact),
  };
  for (const other of underWay) other.alone = false;
  underWay.add(contact);
  return contact;
}

export interface SettleOptions {
  contact: Contact;
  /** Reads the host's clock, milliseconds. */
  now(): number;
  protocol: number;
  signal: AbortSignal;
}

/**
 * Sees to it that the guest's clock is right to 10 ms. Where it is certain to be by the first answer, that costs
 * nothing. So it is where the guest's own account of how long the words have waited agrees with when its answer came
 * and no other guest was met meanwhile, which would have delayed both.
 *
 * @param reply answers a Hello; of an agent that knows of no CLOCK it is returned as it is
 * @param receivedMs when it came
 * @returns the reply, with what the guest's clock shows now
 * @throws SporeletError `guest_failed` when the clock cannot be set so well
 */
export async function settleClock(
  channel: Duplex,
  reply: HelloReply,
  receivedMs: number,
  { contact, now, protocol, signal }: SettleOptions,
): Promise<HelloReply> {
  if (reply.hostClockNs === 0n) return reply;
  let offset = offsetIn(reply, receivedMs);
  if (contact.alone && Math.abs(offset.least) <= agreeingMs) return reply;
  let last = reply;
  const deadline = performance.now() + patienceMs;
  while (!within(offset, aimedMs) && performance.now() < deadline) {
    // As long as that is uncertain it is not moved: programs run already.
    const certain = offset.most - offset.least <= 2 * aimedMs;
    const shiftMs = certain ? -(offset.least + offset.most) / 2 : 0;
    last = await exchange(channel, { protocol, shiftMs, sentMs: now() }, signal);
    const moved = { least: offset.least + shiftMs, most: offset.most + shiftMs };
    offset = both(moved, offsetIn(last, now()));
  }
  if (!within(offset, promisedMs)) throw unsettled(offset);
  return { ...reply, wallClockNs: last.wallClockNs };
}

async function exchange(
  channel: Duplex,
  { protocol, shiftMs, sentMs }: { protocol: number; shiftMs: number; sentMs: number },
  signal: AbortSignal,
): Promise<HelloReply> {
  const hello = create(HelloSchema, {
    ...{ protocol, kind: HelloKind.CLOCK },
    ...{ wallClockNs: nanoseconds(sentMs), clockShiftNs: nanoseconds(shiftMs) },
  });
  channel.write(encodeFrame(toBinary(HelloSchema, hello)));
  const reply = fromBinary(HelloReplySchema, await readFrame(channel, signal));
  if (reply.error === undefined) return reply;
  const { code, message } = reply.error;
  throw new SporeletError({
    code: "guest_failed",
    operation: "set the guest's clock",
    reason: `${code}: ${message}`,
  });
}

function unsettled({ least, most }: Offset): SporeletError {
  const off = [least, most].map((ms) => `${ms.toFixed(1)} ms`).join(" to ");
  return new SporeletError({
    code: "guest_failed",
    operation: "set the guest's clock",
    reason: `it is off by ${off} after ${patienceMs / 1000} s of trying, and has to be right to ${promisedMs} ms`,
    hint: "the host has far more to do than it can; start fewer machines at a time",
  });
}

function milliseconds(ns: bigint): number {
  return Number(ns / 1000n) / 1000;
}

export function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1000)) * 1000n;
}
