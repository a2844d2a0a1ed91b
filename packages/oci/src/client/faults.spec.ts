import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blobOf, collect, type Fault, sourceOf, startTestRegistry } from "../testing/index.ts";
import { createRegistryClient } from "./client.ts";

const bytes = randomBytes(300_000);
const blob = blobOf(bytes);

const position = fc.integer({ min: 0, max: bytes.length });
const transient: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({ status: fc.constantFrom(408, 429, 500, 502, 503, 504) }),
  fc.record({ dropAfterBytes: position }),
  fc.record({ dropUploadAfterBytes: position }),
  fc.record({ expireUploads: fc.constant(true) }),
  fc.record({ redirect: fc.constant(true) }),
  fc.record({ ignoreRange: fc.constant(true) }),
);
const somewhere: fc.Arbitrary<Fault> = fc.record({
  on: fc.constantFrom("HEAD", "POST", "PATCH", "PUT", "GET /uploads/", "GET /blobs/sha", "storage"),
  after: fc.integer({ min: 0, max: 3 }),
  times: fc.integer({ min: 1, max: 2 }),
});
const fault = fc.tuple(somewhere, transient).map(([where, what]) => ({ ...where, ...what }));

describe("whatever passes", () => {
  it("does not change what is pushed and pulled", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fault, { maxLength: 5 }), position, async (faults, offset) => {
        await using registry = await startTestRegistry({ faults });
        await using client = createRegistryClient({
          chunkBytes: 70_000,
          singlePutBytes: 1000,
          // More than all faults together.
          retries: { attempts: 20, firstDelayMs: 0 },
        });
        const repository = client.repository(registry.address, "hello");
        await repository.pushBlob(sourceOf(bytes));
        expect(registry.blobs.has(blob.digest)).toBe(true);
        expect(blobOf(await collect(repository.streamBlob(blob)))).toEqual(blob);
        const tail = await collect(repository.streamBlob(blob, { offset }));
        expect(blobOf(tail)).toEqual(blobOf(bytes.subarray(offset)));
        expect(blobOf(await repository.readBlob(blob))).toEqual(blob);
      }),
      { numRuns: 60 },
    );
  });
});
