import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { digestOf } from "./digest.ts";
import { readIndex } from "./index-tail.ts";
import { materialize } from "./materialize.ts";
import { encodeGolden, goldenDirectory, goldenImages, goldenNames } from "./testing/golden.ts";
import { applyNaively, readNaively } from "./testing/naive-reader.ts";

const golden = goldenNames.map((name) => join(goldenDirectory, name));

describe("the golden files", () => {
  it.each([1, 2])("are read as the images that they were made from: %i of the chain", async (length) => {
    await using directory = await temporaryDirectory();
    const target = join(directory.path, "flat");
    const blobs = await Promise.all(
      golden.slice(0, length).map(async (path) => ({ path, index: (await readIndex(path)).index })),
    );
    await materialize({ blobs, target });
    expect((await readFile(target)).equals(goldenImages[length - 1] ?? Buffer.alloc(0))).toBe(true);
    const blobBytes = await Promise.all(golden.slice(0, length).map((path) => readFile(path)));
    expect(applyNaively(blobBytes).equals(goldenImages[length - 1] ?? Buffer.alloc(0))).toBe(true);
  });

  it("have the indexes that the specification's example says", async () => {
    const [base, delta] = await Promise.all(golden.map(async (path) => (await readIndex(path)).index));
    expect(base).toMatchObject({
      imageBytes: 32786,
      hotFrames: 1,
      zeroRuns: [],
      frames: [
        { offset: 0, sizeBytes: 23, rawBytes: 4096, runs: [{ page: 7, count: 1 }] },
        {
          offset: 23,
          sizeBytes: 30,
          rawBytes: 8192,
          runs: [
            { page: 0, count: 1 },
            { page: 2, count: 1 },
          ],
        },
        { offset: 53, sizeBytes: 32, rawBytes: 8192, runs: [{ page: 3, count: 2 }] },
        { offset: 85, sizeBytes: 36, rawBytes: 4096, runs: [{ page: 8, count: 1 }] },
      ],
    });
    expect(delta).toMatchObject({
      imageBytes: 32786,
      hotFrames: 0,
      zeroRuns: [{ page: 3, count: 2 }],
      frames: [
        {
          offset: 0,
          sizeBytes: 32,
          rawBytes: 8192,
          runs: [
            { page: 0, count: 1 },
            { page: 6, count: 1 },
          ],
        },
      ],
      dataBytes: 8192,
      zeroBytes: 8192,
    });
  });

  it("are what today's encoder makes, apart from how zstd compresses", async () => {
    await using directory = await temporaryDirectory();
    await encodeGolden(directory.path);
    for (const [n, name] of goldenNames.entries()) {
      const today = readNaively(await readFile(join(directory.path, name)));
      expect(today).toEqual(readNaively(await readFile(golden[n] ?? "")));
    }
  });

  it("are what the specification shows", async () => {
    const specification = join(import.meta.dirname, "../../../docs/formats/page-image.md");
    const dump = (await readFile(specification, "utf8")).matchAll(
      /^[0-9a-f]{8} {2}((?:[0-9a-f]{2}[ |]*){1,16})/gm,
    );
    const shown = [...dump].map(([, bytes]) => bytes?.replaceAll(/[^0-9a-f]/g, "")).join("");
    expect(shown).toBe((await readFile(golden[1] ?? "")).toString("hex"));
  });

  it("have images with these digests", async () => {
    await using directory = await temporaryDirectory();
    const target = join(directory.path, "flat");
    const blobs = await Promise.all(
      golden.map(async (path) => ({ path, index: (await readIndex(path)).index })),
    );
    await materialize({ blobs, target });
    expect((await digestOf(target)).digest).toBe(
      "sha256:f25cd0b0a5e3e9f2749413e557562ad5da505230ab0b9c0a0bdc6be97d170cae",
    );
  });
});
