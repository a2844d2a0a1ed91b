import { duplexPair } from "node:stream";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { encodeFrame, readFrame } from "./frame.ts";
import { HelloKind, HelloReplySchema, HelloSchema } from "./gen/sporelet/agent/v1/agent_pb.ts";
import { beginContact, both, nanoseconds, offsetIn, settleClock } from "./guest-clock.ts";

/** A guest whose clock is off, and a host whose clock goes on only by what messages take. */
class Simulation {
  hostMs = 1_700_000_000_000;
  /** Milliseconds that the way to the guest, and from it, take: one pair for each exchange, the last one for all after. */
  ways: [number, number][] = [[1, 1]];
  shiftsMs: number[] = [];
  offMs: number;
  readonly #ends = duplexPair();

  constructor(offMs: number) {
    this.offMs = offMs;
    void this.#answer();
  }

  now = () => this.hostMs;

  pass(ms: number): void {
    this.hostMs += ms;
    vi.advanceTimersByTime(ms);
  }

  async #answer(): Promise<void> {
    for (;;) {
      const hello = fromBinary(HelloSchema, await readFrame(this.#ends[1]));
      expect(hello.kind).toBe(HelloKind.CLOCK);
      const [to, from] = (this.ways.length > 1 ? this.ways.shift() : this.ways[0]) ?? [1, 1];
      this.pass(to);
      const shiftMs = Number(hello.clockShiftNs) / 1e6;
      this.shiftsMs.push(shiftMs);
      this.offMs += shiftMs;
      const reply = this.reply(hello.wallClockNs);
      this.pass(from);
      this.#ends[1].write(encodeFrame(toBinary(HelloReplySchema, reply)));
    }
  }

  reply(hostClockNs: bigint, handlingUs = 0) {
    const wallClockNs = nanoseconds(this.hostMs + this.offMs);
    return create(HelloReplySchema, { hostClockNs, wallClockNs, handlingUs });
  }

  /** A first contact: so long until the words were read, that much to do, so long until the answer came. */
  async contact({ to = 20, handlingMs = 5, from = 1, beside = false, stepMs = 0 } = {}) {
    const sent = nanoseconds(this.hostMs);
    using contact = beginContact();
    using _other = beside ? beginContact() : undefined;
    this.pass(to + handlingMs);
    const reply = this.reply(sent, handlingMs * 1000);
    this.pass(from);
    // The host's clock is set meanwhile: the guest's is off by as much.
    this.hostMs += stepMs;
    this.offMs -= stepMs;
    const { now } = this;
    const signal = new AbortController().signal;
    return await settleClock(this.#ends[0], reply, this.hostMs, { contact, now, protocol: 1, signal });
  }
}

describe("a guest's clock", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["performance"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("is not asked about when its guess agrees with the arrival of its answer, on a quiet host", async () => {
    const guest = new Simulation(-2);
    await guest.contact({ to: 130 });
    expect(guest.shiftsMs).toEqual([]);
  });

  it("is not asked about when the answer came so soon that it cannot be wrong, on any host", async () => {
    const guest = new Simulation(0);
    await guest.contact({ to: 4, handlingMs: 30, from: 3, beside: true });
    expect(guest.shiftsMs).toEqual([]);
  });

  it("is asked about beside other guests, where an answer may be late by as much as the clock is ahead", async () => {
    const guest = new Simulation(30);
    await guest.contact({ from: 30, beside: true });
    expect(guest.shiftsMs).toHaveLength(2);
    expect(Math.abs(guest.offMs)).toBeLessThanOrEqual(1);
  });

  it.for([-3_600_000, -120, -15, 15, 120, 3_600_000])("that is off by %d ms is set", async (offMs) => {
    const guest = new Simulation(offMs);
    const reply = await guest.contact();
    expect(Math.abs(guest.offMs)).toBeLessThanOrEqual(1);
    expect(guest.shiftsMs.filter((ms) => ms !== 0)).toHaveLength(1);
    expect(Math.abs(Number(reply.wallClockNs) / 1e6 - guest.hostMs)).toBeLessThanOrEqual(2);
  });

  it.for([-3_600_000, 3_600_000])("follows the host's that is set by %d ms meanwhile", async (stepMs) => {
    const guest = new Simulation(0);
    await guest.contact({ to: 3, stepMs });
    expect(Math.abs(guest.offMs)).toBeLessThanOrEqual(1);
  });

  it("is not moved before it is known by how much", async () => {
    const guest = new Simulation(-100);
    guest.ways = [
      [40, 80],
      [90, 30],
      [70, 1],
      [2, 60],
      [1, 1],
    ];
    await guest.contact({ to: 200, beside: true });
    expect(guest.shiftsMs.slice(0, 3)).toEqual([0, 0, 0]);
    expect(guest.shiftsMs.filter((ms) => ms !== 0)).toHaveLength(1);
    expect(Math.abs(guest.offMs)).toBeLessThanOrEqual(5);
  });

  it("is known by all answers together: what is late on one way may be early on the other", async () => {
    const guest = new Simulation(2);
    guest.ways = [
      [90, 2],
      [2, 90],
    ];
    await guest.contact({ to: 200, beside: true });
    expect(guest.shiftsMs).toEqual([0, 0]);
  });

  it("keeps a guest from being used when it cannot be set well enough", async () => {
    const guest = new Simulation(-50);
    guest.ways = [[60, 60]];
    await expect(guest.contact({ beside: true })).rejects.toMatchObject({
      code: "guest_failed",
      operation: "set the guest's clock",
      reason: expect.stringContaining("has to be right to 10 ms"),
    });
  });

  it("of an agent that knows of no such question is left as it is", async () => {
    const guest = new Simulation(500);
    const { now } = guest;
    using contact = beginContact();
    const reply = guest.reply(0n);
    const options = { contact, now, protocol: 1, signal: new AbortController().signal };
    expect(await settleClock(duplexPair()[0], reply, now(), options)).toBe(reply);
  });

  it("is within what two answers allow, or what the later one allows if they contradict each other", () => {
    expect(both({ least: -5, most: 9 }, { least: -1, most: 20 })).toEqual({ least: -1, most: 9 });
    expect(both({ least: -5, most: 0 }, { least: 60, most: 70 })).toEqual({ least: 60, most: 70 });
    const reply = create(HelloReplySchema, {
      ...{ hostClockNs: 1_000_000_000n, wallClockNs: 1_030_000_000n, handlingUs: 10_000 },
    });
    expect(offsetIn(reply, 1040)).toEqual({ least: -10, most: 20 });
  });
});
