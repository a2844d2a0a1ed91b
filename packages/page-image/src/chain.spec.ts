import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import type { BlobFrame, BlobIndex } from "./blob-index.ts";
import { encodeTail, parseIndex, readChain } from "./index-tail.ts";

const pageBytes = 4096;

/** A blob without frames, which is nothing but its tail. */
function zeros(runs: number): BlobIndex {
  const zeroRuns = Array.from({ length: runs }, (_, i) => ({ page: 2 * i, count: 1 }));
  const sizes = { imageBytes: 2 * runs * pageBytes, dataBytes: 0, zeroBytes: runs * pageBytes };
  return { ...sizes, frames: [], hotFrames: 0, zeroRuns };
}

/** A blob with frames of a page each. */
function pages(count: number): BlobIndex {
  const digest: BlobFrame["digest"] = `sha256:${"0".repeat(64)}`;
  const frames = Array.from({ length: count }, (_, n): BlobFrame => {
    return { offset: 20 * n, sizeBytes: 20, rawBytes: pageBytes, digest, runs: [{ page: n, count: 1 }] };
  });
  const sizes = { imageBytes: count * pageBytes, dataBytes: count * pageBytes, zeroBytes: 0 };
  return { ...sizes, frames, hotFrames: 0, zeroRuns: [] };
}

describe("the indexes of a chain", () => {
  it("are refused as soon as they stand for too many runs, and no more of them are read", async () => {
    await using directory = await temporaryDirectory();
    const at = (name: string) => join(directory.path, name);
    const { tail } = encodeTail(zeros(2 ** 21));
    // Little to send, and millions of runs.
    expect(tail.length).toBeLessThan(64 * 1024);
    await writeFile(at("many"), tail);
    await writeFile(at("one"), encodeTail(zeros(1)).tail);
    const chain = ["many", "many", "one", "is not even there"].map(at);
    await expect(readChain(chain)).rejects.toMatchObject({
      code: "resource_exhausted",
      subject: at("one"),
      reason: expect.stringContaining("more than 4194304 runs"),
      hint: expect.any(String),
    });
    expect((await readChain(chain.slice(1, 3))).map(({ index }) => index.zeroRuns.length)).toEqual([
      2 ** 21,
      1,
    ]);
  });

  it("take their part of what the chain may hold, and those that are refused take none", () => {
    const budget = { frames: 4, runs: 6 };
    const read = (index: BlobIndex) => {
      const { tail, ref } = encodeTail(index);
      return parseIndex(tail, ref, { budget });
    };
    read(zeros(3));
    expect(budget).toEqual({ frames: 4, runs: 3 });
    read(pages(2));
    expect(budget).toEqual({ frames: 2, runs: 1 });
    for (const [index, what] of [
      [zeros(2), "runs of pages"],
      [pages(2), "runs of pages"],
      [pages(3), "frames"],
    ] as const) {
      expect(() => read(index)).toThrow(
        expect.objectContaining({ code: "resource_exhausted", reason: expect.stringContaining(what) }),
      );
      expect(budget).toEqual({ frames: 2, runs: 1 });
    }
    read(pages(1));
    expect(budget).toEqual({ frames: 1, runs: 0 });
  });
});
