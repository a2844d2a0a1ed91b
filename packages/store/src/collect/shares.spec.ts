import fc from "fast-check";
import { expect, it } from "vitest";
import { createShares } from "./shares.ts";
import { groupBlocks, type Holding } from "./sweep.ts";

const block = 4096;

/** Owners with stretches of blocks, which may overlap among them and within one. */
const holdings = fc.array(
  fc.record({
    extents: fc
      .array(fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 12 })), { maxLength: 8 })
      .map((pairs) => pairs.flatMap(([start, count]) => [start * block, count * block])),
    elsewhereBytes: fc.nat(3).map((count) => count * block),
  }),
  { maxLength: 6 },
);

async function sharesOf(owners: readonly Holding[]) {
  return createShares(await groupBlocks(owners), owners.length);
}

/** The blocks of an owner, one by one; those elsewhere have a name that nobody else's have. */
function blocksOf({ extents, elsewhereBytes }: Holding, owner: number): Set<string> {
  const blocks = new Set<string>();
  for (let i = 0; i < extents.length; i += 2) {
    const [start = 0, length = 0] = [extents[i], extents[i + 1]];
    for (let at = start; at < start + length; at += block) blocks.add(String(at));
  }
  for (let i = 0; i < elsewhereBytes / block; i++) blocks.add(`${owner} ${i}`);
  return blocks;
}

function unionOf(sets: readonly Set<string>[]): Set<string> {
  return new Set(sets.flatMap((set) => [...set]));
}

it("counts what counting block by block counts", async () => {
  await fc.assert(
    fc.asyncProperty(holdings, fc.nat(63), fc.nat(63), async (owners, some, others) => {
      const shares = await sharesOf(owners);
      const blocks = owners.map(blocksOf);
      const has = (mask: number) => (owner: number) => (mask & (1 << owner)) !== 0;
      const inMask = (mask: number) => blocks.filter((_, owner) => has(mask)(owner));
      for (const [owner, own] of blocks.entries()) {
        const rest = unionOf(blocks.filter((_, other) => other !== owner));
        expect(shares.totalOf(owner)).toBe(own.size * block);
        expect(shares.ownOf(owner)).toBe([...own].filter((each) => !rest.has(each)).length * block);
      }
      expect(shares.unionOf(has(some))).toBe(unionOf(inMask(some)).size * block);
      const rest = unionOf(blocks.filter((_, owner) => !has(some)(owner)));
      const freed = [...unionOf(inMask(some & others))].filter((each) => !rest.has(each));
      expect(shares.freedBy(has(some), has(others))).toBe(freed.length * block);
    }),
  );
});

it("accounts for owners that go one after the other: together they free all", async () => {
  await fc.assert(
    fc.asyncProperty(holdings, fc.infiniteStream(fc.nat(5)), async (owners, order) => {
      const shares = await sharesOf(owners);
      const account = shares.account();
      const gone = new Set<number>();
      let freed = 0;
      for (const owner of order) {
        if (gone.size === owners.length) break;
        const first = !gone.has(owner % owners.length);
        gone.add(owner % owners.length);
        const now = account.remove(owner % owners.length);
        if (!first) expect(now).toBe(0);
        freed += now;
        expect(freed).toBe(
          shares.freedBy(
            (each) => gone.has(each),
            () => true,
          ),
        );
      }
      expect(freed).toBe(shares.unionOf(() => true));
    }),
  );
});

it("takes blocks past the end of what it can sort for an owner's own", async () => {
  const far = 2 ** 50;
  const shares = await sharesOf([
    { extents: [far, block, 0, block], elsewhereBytes: 0 },
    { extents: [far, block, 0, block], elsewhereBytes: 0 },
  ]);
  expect(shares.totalOf(0)).toBe(2 * block);
  expect(shares.ownOf(0)).toBe(block);
  expect(shares.unionOf(() => true)).toBe(3 * block);
});

it("is right about stretches in many lots, wherever they lie", async () => {
  const count = 50_000;
  // Two owners share every second of many stretches, which are crowded at one end.
  const address = (i: number) => (i < count / 2 ? i : i * i) * 2 * block;
  const numbers = Array.from({ length: count }, (_, i) => i);
  const shares = await sharesOf([
    { extents: numbers.flatMap((i) => [address(i), block]), elsewhereBytes: 0 },
    { extents: numbers.filter((i) => i % 2 === 0).flatMap((i) => [address(i), block]), elsewhereBytes: 0 },
  ]);
  expect(shares.totalOf(0)).toBe(count * block);
  expect(shares.ownOf(0)).toBe((count / 2) * block);
  expect(shares.ownOf(1)).toBe(0);
  expect(shares.unionOf(() => true)).toBe(count * block);
});
