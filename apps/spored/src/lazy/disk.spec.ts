import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pageBytes, physicalExtents } from "@sporelet/host";
import { mountXfs, temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createBlockMap } from "./block-map.ts";
import { createMachineDisk } from "./disk.ts";
import { readFully } from "./image.ts";

const pages = 24;
const sizeBytes = pages * pageBytes - 1000;

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom("read" as const, "write" as const, "discard" as const, "consolidate" as const),
    offset: fc.nat(sizeBytes - 1),
    bytes: fc.integer({ min: 1, max: 4 * pageBytes }),
    fill: fc.integer({ min: 1, max: 255 }),
  }),
  { maxLength: 30 },
);

describe("a machine's disk over a base that is being fetched", () => {
  it("is what a plain disk would be, whatever is done to it, and asks for no page that it has", async () => {
    await using directory = await temporaryDirectory();
    let n = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (todo) => {
        const base = join(directory.path, `base${n}`);
        const content = Buffer.alloc(sizeBytes, "base content ");
        await writeFile(base, content);
        await using handle = await open(base, "r");
        const model = Buffer.from(content);
        const fetched = new Set<number>();
        /** Written as a whole: nothing of the base shows there any more. */
        const own = new Set<number>();
        using disk = createMachineDisk(join(directory.path, `disk${n++}`), {
          fd: handle.fd,
          imageBytes: sizeBytes,
          read: (offset, target) => readFully(handle.fd, offset, target),
          ready(offset, bytes) {
            for (let page = Math.floor(offset / pageBytes); page * pageBytes < offset + bytes; page++) {
              expect(own.has(page)).toBe(false);
              fetched.add(page);
            }
            return undefined;
          },
        });
        for (const { kind, offset, fill, bytes: wanted } of todo) {
          if (kind === "consolidate") {
            await disk.consolidate();
            continue;
          }
          const bytes = Math.min(wanted, sizeBytes - offset);
          expect(disk.ready({ kind, offset, bytes, pid: 1 })).toBeUndefined();
          if (kind === "read") {
            const target = Buffer.alloc(bytes);
            disk.read(offset, target);
            expect(target.equals(model.subarray(offset, offset + bytes))).toBe(true);
            continue;
          }
          for (let page = Math.ceil(offset / pageBytes); (page + 1) * pageBytes <= offset + bytes; page++)
            own.add(page);
          const value = kind === "write" ? fill : 0;
          if (kind === "write") disk.write?.(offset, Buffer.alloc(bytes, value));
          else disk.discard?.(offset, bytes);
          model.fill(value, offset, offset + bytes);
        }
        const whole = Buffer.alloc(sizeBytes);
        disk.read(0, whole);
        expect(whole.equals(model)).toBe(true);
        await disk.consolidate();
        disk.read(0, whole);
        expect(whole.equals(model)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it("shares the base's blocks once it is whole", async (ctx) => {
    const reason = whyNoMounts();
    if (reason) ctx.skip(reason);
    await using xfs = await mountXfs();
    const base = join(xfs.path, "base");
    await writeFile(base, Buffer.alloc(64 * pageBytes, 7));
    await using handle = await open(base, "r");
    const file = join(xfs.path, "disk");
    using disk = createMachineDisk(file, {
      fd: handle.fd,
      imageBytes: 64 * pageBytes,
      read: (offset, target) => readFully(handle.fd, offset, target),
      ready: () => undefined,
    });
    disk.write?.(10 * pageBytes, Buffer.alloc(pageBytes, 1));
    await disk.consolidate();
    await using made = await open(file, "r");
    await made.sync();
    const shared = ((await physicalExtents(made)) ?? []).filter((extent) => extent.shared);
    expect(shared.reduce((sum, { length }) => sum + length, 0)).toBe(63 * pageBytes);
    expect(disk.seek?.(0, "hole")).toBe(64 * pageBytes);
  });

  it("waits for pages that show, and for the rest of pages that are written in part", async () => {
    await using directory = await temporaryDirectory();
    const base = join(directory.path, "base");
    await writeFile(base, Buffer.alloc(8 * pageBytes, 1));
    await using handle = await open(base, "r");
    const asked: [number, number][] = [];
    using disk = createMachineDisk(join(directory.path, "disk"), {
      fd: handle.fd,
      imageBytes: 8 * pageBytes,
      read: (offset, target) => readFully(handle.fd, offset, target),
      ready(offset, bytes) {
        asked.push([offset / pageBytes, bytes / pageBytes]);
        return Promise.resolve();
      },
    });
    const pid = 1;
    expect(disk.ready({ kind: "write", offset: pageBytes, bytes: 2 * pageBytes, pid })).toBeUndefined();
    disk.write?.(pageBytes, Buffer.alloc(2 * pageBytes));
    await disk.ready({ kind: "write", offset: 10, bytes: 4 * pageBytes, pid });
    await disk.ready({ kind: "read", offset: 0, bytes: 8 * pageBytes, pid });
    await disk.ready({ kind: "discard", offset: 5 * pageBytes + 1, bytes: 10, pid });
    expect(asked).toEqual([
      [0, 1],
      [4, 1],
      [0, 1],
      [3, 5],
      [5, 1],
    ]);
  });
});

describe("a block map", () => {
  it("knows the pages of a disk of 16 TiB, to its last one", () => {
    const map = createBlockMap(2 ** 32);
    for (const page of [2 ** 31, 2 ** 32 - 16]) {
      map.add(page, page + 11);
      expect([page - 1, page, page + 10, page + 11].map(map.has)).toEqual([false, true, true, false]);
      expect(map.hasAll(page, page + 11)).toBe(true);
      expect(map.nextAbsent(page, 2)).toEqual({ from: page + 11, to: page + 13 });
    }
    // Nothing was taken for another page.
    expect([0, 1, 10].map(map.has)).toEqual([false, false, false]);
  });

  it("knows what was added, and finds what was not", () => {
    const ranges = fc.array(fc.tuple(fc.nat(199), fc.integer({ min: 1, max: 40 })), { maxLength: 12 });
    fc.assert(
      fc.property(ranges, fc.integer({ min: 1, max: 50 }), (added, limit) => {
        const map = createBlockMap(200);
        const model = new Set<number>();
        for (const [from, count] of added) {
          const to = Math.min(200, from + count);
          map.add(from, to);
          for (let page = from; page < to; page++) model.add(page);
        }
        const absent: number[] = [];
        for (let from = 0; ; ) {
          const stretch = map.nextAbsent(from, limit);
          if (stretch === undefined) break;
          expect(stretch.to - stretch.from).toBeLessThanOrEqual(limit);
          for (let page = stretch.from; page < stretch.to; page++) absent.push(page);
          from = stretch.to;
        }
        expect(absent).toEqual(
          Array.from({ length: 200 }, (_, page) => page).filter((page) => !model.has(page)),
        );
      }),
    );
  });
});
