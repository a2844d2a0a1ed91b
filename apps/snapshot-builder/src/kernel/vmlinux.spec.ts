import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findPayload, kernelProblem } from "./vmlinux.ts";

/** A bzImage of nothing but a setup header and a payload. */
function bzImage(payload: Uint8Array, { sectors = 2, offset = 64, uncompressed = 4096 } = {}): Buffer {
  const start = (sectors + 1) * 512 + offset;
  const image = Buffer.alloc(start + payload.length + 4 + 100);
  image[0x1f1] = sectors;
  image.write("HdrS", 0x202);
  image.writeUInt16LE(0x20f, 0x206);
  image.writeUInt32LE(offset, 0x248);
  image.writeUInt32LE(payload.length + 4, 0x24c);
  image.set(payload, start);
  image.writeUInt32LE(uncompressed, start + payload.length);
  return image;
}
const lz4 = [0x02, 0x21, 0x4c, 0x18];

describe("a bzImage's kernel", () => {
  it("is found wherever the header says it is, without the length at its end", () => {
    const shape = fc.record({
      sectors: fc.integer({ min: 1, max: 60 }),
      offset: fc.integer({ min: 0, max: 2000 }),
    });
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 200 }), shape, (body, where) => {
        const payload = Uint8Array.from([...lz4, ...body]);
        const found = findPayload(bzImage(payload, where), "vmlinuz");
        expect(found.compression).toBe("lz4");
        expect(Buffer.compare(found.bytes, payload)).toBe(0);
        expect(found.uncompressedBytes).toBe(4096);
      }),
    );
  });

  it("is refused when the file is cut short anywhere in it, or is no bzImage at all", () => {
    const image = bzImage(Uint8Array.from([...lz4, ...new Uint8Array(600)]));
    fc.assert(
      fc.property(fc.integer({ min: 0, max: image.length - 101 }), (length) => {
        expect(() => findPayload(image.subarray(0, length), "vmlinuz")).toThrow("vmlinuz");
      }),
    );
    expect(() => findPayload(Buffer.alloc(4096), "x")).toThrow("it is no bzImage");
  });

  it("is refused after decompression when its size or magic is wrong", () => {
    const payload = findPayload(
      bzImage(Uint8Array.from([...lz4, 0, 0, 0, 0]), { uncompressed: 8 }),
      "vmlinuz",
    );
    expect(kernelProblem(Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 1, 2, 3, 4]), payload)).toBeUndefined();
    expect(kernelProblem(new Uint8Array(8), payload)).toContain("no ELF");
    expect(kernelProblem(new Uint8Array(7), payload)).toContain("7 bytes where 8");
  });
});
