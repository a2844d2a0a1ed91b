import { describe, expect, it } from "vitest";
import type { BlobFrame, BlobIndex } from "./blob-index.ts";
import { flatten } from "./flatten.ts";
import type { PageRun } from "./types.ts";

const pageBytes = 4096;

function blob(pages: number, frames: PageRun[][], zeroRuns: PageRun[] = []): BlobIndex {
  return {
    imageBytes: pages * pageBytes,
    frames: frames.map((runs): BlobFrame => {
      const rawBytes = runs.reduce((sum, { count }) => sum + count, 0) * pageBytes;
      return { offset: 0, sizeBytes: 1, rawBytes, digest: "sha256:", runs };
    }),
    hotFrames: 0,
    zeroRuns,
    dataBytes: 0,
    zeroBytes: 0,
  };
}

const run = (page: number, count = 1): PageRun => ({ page, count });

describe("flatten", () => {
  it("takes each page from the last blob that has it", () => {
    const flat = flatten([blob(10, [[run(0, 4), run(6, 2)], [run(8, 2)]]), blob(10, [[run(1, 2), run(7)]])]);
    expect(flat.frames).toMatchObject([
      {
        layer: 0,
        frame: 0,
        writes: [
          { page: 0, count: 1, at: 0 },
          { page: 3, count: 1, at: 3 * pageBytes },
          { page: 6, count: 1, at: 4 * pageBytes },
        ],
      },
      { layer: 0, frame: 1, writes: [{ page: 8, count: 2, at: 0 }] },
      {
        layer: 1,
        frame: 0,
        writes: [
          { page: 1, count: 2, at: 0 },
          { page: 7, count: 1, at: 2 * pageBytes },
        ],
      },
    ]);
    expect([0, 1, 2, 3, 4, 6, 7, 8, 9, 10].map(flat.frameOf)).toEqual([
      0,
      2,
      2,
      0,
      undefined,
      0,
      2,
      1,
      1,
      undefined,
    ]);
    expect(flat.dataBytes).toBe(8 * pageBytes);
  });

  it("leaves out frames of which nothing is visible, and pages that became zero", () => {
    const flat = flatten([blob(4, [[run(0)], [run(1, 3)]]), blob(4, [[run(0)]], [run(2)])]);
    expect(flat.frames.map(({ layer, frame }) => [layer, frame])).toEqual([
      [0, 1],
      [1, 0],
    ]);
    expect([0, 1, 2, 3].map(flat.frameOf)).toEqual([1, 0, undefined, 0]);
    expect(flat.zeroRuns).toEqual([run(2)]);
  });

  it("forgets what lay past the end of an image in the middle", () => {
    const flat = flatten([blob(10, [[run(0, 10)]]), blob(4, []), blob(8, [[run(7)]])]);
    expect(Array.from({ length: 10 }, (_, page) => flat.frameOf(page))).toEqual([
      0,
      0,
      0,
      0,
      undefined,
      undefined,
      undefined,
      1,
      undefined,
      undefined,
    ]);
  });

  it("is nothing for no blobs", () => {
    expect(flatten([])).toMatchObject({ imageBytes: 0, dataBytes: 0, frames: [] });
  });

  it("keeps the order of hot frames, which may go back in the image", () => {
    const flat = flatten([blob(10, [[run(8)], [run(3)], [run(0, 2)]])]);
    expect(flat.frames.map(({ frame }) => frame)).toEqual([0, 1, 2]);
    expect([8, 3, 1].map(flat.frameOf)).toEqual([0, 1, 2]);
  });

  it("refuses a chain of so many runs that it would fill the memory", () => {
    const many = blob(
      2 ** 23,
      [],
      Array.from({ length: 2 ** 20 }, (_, i) => run(2 * i)),
    );
    expect(() => flatten([many, many, many, many, many])).toThrow(
      expect.objectContaining({ code: "resource_exhausted" }),
    );
  });
});
