import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BlobSource, createFetcher, type Fetcher, type FetcherOptions } from "./fetcher.ts";
import { createPlanner, type Piece } from "./planner.ts";

const pieces = Array.from(
  { length: 20 },
  (_, n): Piece => ({ blob: n % 2, offset: n * 100, sizeBytes: 100 }),
);
/** What each blob holds at each place. */
const byteAt = (blob: number, offset: number) => (blob * 101 + offset * 7) & 0xff;

function content(blob: number, offset: number, bytes: number): Buffer {
  return Buffer.from(Array.from({ length: bytes }, (_, n) => byteAt(blob, offset + n)));
}

const unavailable = (reason = "no route to it") =>
  new SporeletError({ code: "unavailable", operation: "fetch", reason });

interface Made {
  fetcher: Fetcher;
  /** Pieces in the order in which they came. */
  came: number[];
  asked: { blob: number; offset: number; bytes: number }[];
}

function make(read: BlobSource["read"], options: Partial<FetcherOptions> & { first?: number[] } = {}): Made {
  const { first = [], ...rest } = options;
  const came: number[] = [];
  const asked: Made["asked"] = [];
  const planner = createPlanner(pieces, { first, rangeBytes: 400, gapBytes: 150 });
  const fetcher = createFetcher({
    ...{ pieces, planner, retryMs: 1, patienceMs: 200 },
    source: {
      read(blob, range) {
        asked.push({ blob, offset: range.offset, bytes: range.bytes });
        return read(blob, range);
      },
    },
    async accept(piece, bytes) {
      const { blob, offset, sizeBytes } = pieces[piece] as Piece;
      if (!bytes.equals(content(blob, offset, sizeBytes))) {
        throw new SporeletError({ code: "corrupt", operation: "decode", reason: "wrong bytes" });
      }
      came.push(piece);
    },
    ...rest,
  });
  return { fetcher, came, asked };
}

/** A source that does what it should, in chunks of some size. */
async function* whole(blob: number, range: { offset: number; bytes: number }, chunk = 64) {
  const all = content(blob, range.offset, range.bytes);
  for (let at = 0; at < all.length; at += chunk) yield all.subarray(at, at + chunk);
}

describe("the fetcher", () => {
  it("takes in every piece whole and once, however the bytes come", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 500 }), fc.array(fc.nat(19)), async (chunk, first) => {
        const { fetcher, came } = make((blob, range) => whole(blob, range, chunk), { first });
        fetcher.allowRest();
        await fetcher.complete;
        expect(came.toSorted((a, b) => a - b)).toEqual(pieces.map((_, n) => n));
        await fetcher.close();
      }),
      { numRuns: 30 },
    );
  });

  it("gets over interruptions, short answers and damage", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("fail", "short", "damage", "fine"), { maxLength: 12 }),
        async (plan) => {
          const left = [...plan];
          let damaged = 0;
          const { fetcher, came } = make(async function* (blob, range) {
            const next = left.shift();
            if (next === "fail") throw unavailable();
            const bytes = next === "short" ? Math.floor(range.bytes / 2) : range.bytes;
            const all = content(blob, range.offset, bytes);
            // More often and it is no accident any more.
            if (next === "damage" && damaged++ < 2) all[0] = (all[0] ?? 0) ^ 1;
            yield all;
          });
          fetcher.allowRest();
          await fetcher.complete;
          expect(came).toHaveLength(pieces.length);
          expect(fetcher.problem).toBeUndefined();
          await fetcher.close();
        },
      ),
      { numRuns: 40 },
    );
  });

  it("fetches what somebody waits for at once, and only the working set before the rest is allowed", async () => {
    const { fetcher, came } = make(whole, { first: [4, 6] });
    await fetcher.warm;
    await fetcher.need([13]);
    expect(came.toSorted((a, b) => a - b)).toEqual([4, 6, 13]);
    expect(fetcher.has(13)).toBe(true);
    await fetcher.need([13, 4]);
    await fetcher.close();
  });

  it("fails who waits when nothing comes for too long, and serves who asks when it comes again", async () => {
    let broken = true;
    const { fetcher } = make((blob, range) => {
      if (broken) throw unavailable("nobody answers");
      return whole(blob, range);
    });
    await expect(fetcher.need([3])).rejects.toMatchObject({ code: "unavailable", reason: "nobody answers" });
    expect(fetcher.problem?.reason).toBe("nobody answers");
    broken = false;
    await fetcher.need([3]);
    expect(fetcher.problem).toBeUndefined();
    await fetcher.close();
  });

  it("waits without end while nobody waits", async () => {
    let failures = 0;
    const { fetcher } = make(
      (blob, range) => {
        if (failures++ < 8) throw unavailable();
        return whole(blob, range);
      },
      { patienceMs: 1 },
    );
    fetcher.allowRest();
    await fetcher.complete;
    await fetcher.close();
  });

  it("gives up at once on what waiting does not mend, for those who wait and those who come later", async () => {
    const refused = new SporeletError({
      code: "permission_denied",
      operation: "fetch",
      reason: "not for you",
    });
    const { fetcher } = make(() => {
      throw refused;
    });
    await expect(fetcher.need([1])).rejects.toBe(refused);
    await expect(fetcher.need([2])).rejects.toBe(refused);
    await expect(fetcher.complete).rejects.toBe(refused);
    await fetcher.close();
  });

  it("gives up on a piece that comes wrong again and again", async () => {
    const { fetcher } = make(async function* (_blob, range) {
      yield Buffer.alloc(range.bytes, 1);
    });
    await expect(fetcher.need([1])).rejects.toMatchObject({ code: "corrupt" });
    await expect(fetcher.complete).rejects.toMatchObject({ code: "corrupt" });
    await fetcher.close();
  });

  it("fails who waits when the disk is full, and says so", async () => {
    const accept = () => Promise.reject(Object.assign(new Error("ENOSPC: write"), { code: "ENOSPC" }));
    const { fetcher } = make(whole, { accept });
    const full = { code: "resource_exhausted", reason: "no space left on the disk" };
    await expect(fetcher.need([1])).rejects.toMatchObject(full);
    await expect(fetcher.complete).rejects.toMatchObject(full);
    await fetcher.close();
  });

  it("ends at any time, and fails who waits", async () => {
    const { fetcher } = make(async function* (_blob, { signal }) {
      yield Buffer.alloc(1);
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    });
    const waiting = fetcher.need([5]);
    waiting.catch(() => {});
    await fetcher.close();
    await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
    await expect(fetcher.need([6])).rejects.toMatchObject({ code: "cancelled" });
  });
});
