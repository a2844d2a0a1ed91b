import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createPlanner, type FetchRange, type Piece } from "./planner.ts";

/** Pieces in the order of their offsets, with gaps. */
const pieceLists = fc
  .array(fc.record({ blob: fc.nat(2), gap: fc.nat(200), sizeBytes: fc.integer({ min: 1, max: 300 }) }), {
    minLength: 1,
    maxLength: 40,
  })
  .map((parts) => {
    const ends = [0, 0, 0];
    return parts.map(({ blob, gap, sizeBytes }): Piece => {
      const offset = (ends[blob] ?? 0) + gap;
      ends[blob] = offset + sizeBytes;
      return { blob, offset, sizeBytes };
    });
  });

const limits = { rangeBytes: 1000, gapBytes: 100 };

function take(planner: ReturnType<typeof createPlanner>): FetchRange[] {
  const ranges: FetchRange[] = [];
  for (let range = planner.next(); range !== undefined; range = planner.next()) ranges.push(range);
  return ranges;
}

describe("the fetch planner", () => {
  it("fetches every piece once, in ranges that hold their pieces and no long gaps", () => {
    fc.assert(
      fc.property(pieceLists, fc.array(fc.nat(39)), fc.array(fc.nat(39)), (pieces, first, demanded) => {
        const within = (list: number[]) => list.filter((piece) => piece < pieces.length);
        const planner = createPlanner(pieces, { first: within(first), ...limits });
        for (const piece of within(demanded)) planner.demand(piece);
        planner.allowRest();
        const ranges = take(planner);
        const fetched = ranges.flatMap((range) => range.pieces);
        expect(fetched.toSorted((a, b) => a - b)).toEqual(pieces.map((_, piece) => piece));
        for (const range of ranges) {
          let end = range.offset;
          for (const number of range.pieces) {
            const piece = pieces[number] as Piece;
            expect(piece.blob).toBe(range.blob);
            expect(piece.offset).toBeGreaterThanOrEqual(end);
            expect(piece.offset - end).toBeLessThanOrEqual(limits.gapBytes);
            end = piece.offset + piece.sizeBytes;
          }
          expect(end).toBe(range.offset + range.bytes);
          expect(range.pieces.length === 1 || range.bytes <= limits.rangeBytes).toBe(true);
        }
        for (const piece of fetched) planner.done(piece);
        expect([planner.missing, planner.missingFirst]).toEqual([0, 0]);
      }),
    );
  });

  it("serves first who waits, then the working set in its order, then the rest", () => {
    fc.assert(
      fc.property(pieceLists, fc.array(fc.nat(39)), fc.array(fc.nat(39)), (pieces, first, demanded) => {
        const within = (list: number[]) => [...new Set(list.filter((piece) => piece < pieces.length))];
        const [wanted, set] = [within(demanded), within(first)];
        const planner = createPlanner(pieces, { first: set, ...limits });
        for (const piece of wanted) planner.demand(piece);
        planner.allowRest();
        const ranges = take(planner);
        const classOf = (piece: number) => (wanted.includes(piece) ? 0 : set.includes(piece) ? 1 : 2);
        // The first piece of a range is why it is fetched; others come along.
        const reasons = ranges.map((range) => Math.min(...range.pieces.map(classOf)));
        expect(reasons).toEqual(reasons.toSorted());
        expect(ranges.filter(({ urgent }) => urgent).flatMap((range) => range.pieces)).toHaveLength(
          wanted.length,
        );
        const left = set.filter((piece) => !wanted.includes(piece));
        const started = ranges.filter((_, n) => reasons[n] === 1).map((range) => range.pieces[0] as number);
        const places = started.map((piece) => left.indexOf(piece));
        expect(places).toEqual(places.toSorted((a, b) => a - b));
      }),
    );
  });

  it("keeps the rest back until it is allowed", () => {
    const pieces = [0, 1, 2].map((n): Piece => ({ blob: n, offset: 0, sizeBytes: 10 }));
    const planner = createPlanner(pieces, { first: [1] });
    expect(take(planner).flatMap((range) => range.pieces)).toEqual([1]);
    planner.demand(2);
    expect(take(planner)).toMatchObject([{ pieces: [2], urgent: true }]);
    planner.allowRest();
    expect(take(planner).flatMap((range) => range.pieces)).toEqual([0]);
  });

  it("plans again what failed, and never what is under way or there", () => {
    const pieces = [0, 1].map((n): Piece => ({ blob: 0, offset: n * 10, sizeBytes: 10 }));
    const planner = createPlanner(pieces, { first: [0, 1] });
    expect(take(planner)).toMatchObject([{ pieces: [0, 1], offset: 0, bytes: 20 }]);
    planner.demand(0);
    expect(planner.next()).toBeUndefined();
    planner.done(0);
    planner.failed(0);
    planner.failed(1);
    expect(take(planner)).toMatchObject([{ pieces: [1], offset: 10, bytes: 10 }]);
  });
});
