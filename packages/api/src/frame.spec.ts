import { Duplex } from "node:stream";
import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeFrame, readFrame, skipThrough } from "./frame.ts";

/** A channel on which these parts arrive, each on its own, and then the end. */
function channelOf(...parts: Uint8Array[]): Duplex {
  const channel = new Duplex({ read() {}, write: (_data, _encoding, done) => done() });
  void (async () => {
    for (const part of parts) {
      channel.push(part);
      await new Promise(setImmediate);
    }
    channel.push(null);
  })();
  return channel;
}

/** Cuts bytes at the given places. */
function cut(bytes: Uint8Array, at: number[]): Uint8Array[] {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, i) => bytes.subarray(places[i], end));
}

test("a frame comes back however it was cut, and what follows is left", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ minLength: 1, maxLength: 20 }),
      fc.array(fc.nat(), { maxLength: 5 }),
      async (body, rest, at) => {
        const channel = channelOf(
          ...cut(Buffer.concat([encodeFrame(body), rest]), at).filter((p) => p.length > 0),
        );
        expect(Buffer.from(await readFrame(channel))).toEqual(Buffer.from(body));
        expect(Buffer.concat(await channel.toArray())).toEqual(Buffer.from(rest));
      },
    ),
    { numRuns: 50 },
  );
});

test("everything before a marker is skipped, though it looks much like it", async () => {
  const marker = Buffer.from("aab");
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 30 }), async (letters) => {
      const before = letters.join("").replaceAll("aab", "c");
      // The first occurrence counts, and it may begin in what comes before.
      const stream = `${before}aab.rest`;
      const channel = channelOf(Buffer.from(stream));
      await skipThrough(channel, marker);
      expect(Buffer.concat(await channel.toArray()).toString()).toBe(stream.slice(stream.indexOf("aab") + 3));
    }),
    { numRuns: 100 },
  );
});

test("a stream that ends too soon, or speaks something else, is an error", async () => {
  const frame = encodeFrame(Buffer.from("hello"));
  await expect(readFrame(channelOf())).rejects.toMatchObject({ code: "unavailable" });
  await expect(readFrame(channelOf(frame.subarray(0, 7)))).rejects.toMatchObject({ code: "unavailable" });
  await expect(readFrame(channelOf(Buffer.from("HTTP/1.1 400")))).rejects.toMatchObject({
    code: "incompatible",
  });
  expect(() => encodeFrame(new Uint8Array((1 << 20) + 1))).toThrow("more than 1048576");
});
