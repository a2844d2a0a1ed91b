import type { MappedRegion } from "@sporelet/host";
import { expect, it } from "vitest";
import { changedPages } from "./changed-pages.ts";
import type { MemoryRegion } from "./contract.ts";

const page = 4096;
const at = (first: number, count: number, replaced?: MemoryRegion["replaced"]): MemoryRegion => ({
  ...{ address: (1000 + first) * page, bytes: count * page, offset: first * page },
  ...(replaced && { replaced }),
});

/** Pages 1, 2 and 21 are the process's own, wherever it is asked for them. */
const ownPages = async (regions: readonly MappedRegion[]) => {
  const own = [at(1, 2), at(21, 1)];
  return regions.flatMap((region) =>
    own.filter(({ offset }) => offset >= region.offset && offset < region.offset + region.bytes),
  );
};

it("of a mapping that is whole, only the process's own pages may differ", async () => {
  expect(await changedPages([at(0, 30)], ownPages)).toEqual({ held: [at(1, 2), at(21, 1)], zero: [] });
});

it("of anonymous memory in its place, all pages that nobody wrote to are zero", async () => {
  const { held, zero } = await changedPages([at(0, 20), at(20, 10, "anonymous")], ownPages);
  expect(held).toEqual([at(1, 2), at(21, 1)]);
  expect(zero).toEqual([
    { offset: 20 * page, length: page },
    { offset: 22 * page, length: 8 * page },
  ]);
});

it("what is not mapped is zero, and what else is mapped is taken as it is, in the order of the file", async () => {
  const regions = [at(24, 6, "other"), at(0, 20), at(20, 4, "nothing")];
  const { held, zero } = await changedPages(regions, ownPages);
  expect(held).toEqual([at(1, 2), at(24, 6, "other")]);
  expect(zero).toEqual([{ offset: 20 * page, length: 4 * page }]);
});
