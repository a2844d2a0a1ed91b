import type { PageImageLayer, Repository } from "@sporelet/oci";
import { expect, it } from "vitest";
import type { BlobIndex } from "../../../../packages/page-image/src/blob-index.ts";
import { encodeTail } from "../../../../packages/page-image/src/index-tail.ts";
import { fetchIndexes } from "./blobs.ts";

const signal = new AbortController().signal;

/** A step of a chain that is nothing but its index, which says of so many runs of pages that they are zero. */
function step(layer: number, runs: number): PageImageLayer & { tail: Buffer } {
  const zeroRuns = Array.from({ length: runs }, (_, i) => ({ page: 2 * i, count: 1 }));
  const sizes = { imageBytes: 2 ** 40, dataBytes: 0, zeroBytes: runs * 4096 };
  const index: BlobIndex = { ...sizes, frames: [], hotFrames: 0, zeroRuns };
  const { tail, ref } = encodeTail(index);
  const descriptor = { mediaType: "m", digest: ref.digest, size: tail.length };
  return { file: "memory", layer, index: ref, descriptor, tail };
}

it("does not read the indexes of a chain that all together would fill the memory", async () => {
  const many = step(0, 2 ** 21);
  const one = step(0, 1);
  const repository: Pick<Repository, "name" | "streamBlob"> = {
    name: "registry.example/team/app",
    async *streamBlob({ digest }) {
      const found = [many, one].find(({ descriptor }) => descriptor.digest === digest);
      if (found !== undefined) yield found.tail;
    },
  };
  const indexes = await fetchIndexes(repository, [many, one], signal);
  expect(indexes.map(({ zeroRuns }) => zeroRuns.length)).toEqual([2 ** 21, 1]);
  await expect(fetchIndexes(repository, [many, many, many, one], signal)).rejects.toMatchObject({
    ...{ code: "resource_exhausted", operation: "read the index of" },
    subject: expect.stringContaining("of registry.example/team/app"),
  });
});
