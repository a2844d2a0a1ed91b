import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Item, keptBy, lineageOf, partialAgeMs, planCollection } from "./plan.ts";

const nowMs = 100 * partialAgeMs;

/** Stores of any shape: kinds, ages, names, users, and snapshots whose parents came before them. */
const stores = fc
  .array(
    fc.record({
      kind: fc.constantFrom("partial", "blob", "build", "snapshot", "snapshot", "snapshot", "machine"),
      age: fc.nat(4 * partialAgeMs),
      tagged: fc.integer({ min: 0, max: 9 }).map((n) => n < 2),
      used: fc.integer({ min: 0, max: 9 }).map((n) => n < 1),
      parent: fc.option(fc.nat(11)),
    }),
    { maxLength: 12 },
  )
  .map((specs) =>
    specs.map(
      ({ kind, age, tagged, used, parent }, i): Item => ({
        kind,
        id: `i${i}`,
        lastUsedMs: nowMs - age,
        tags: kind === "snapshot" && tagged ? [`n${i}:latest`] : [],
        users: used ? ["machine m"] : [],
        // Also a parent that is not there, or that is no snapshot.
        ...(kind === "snapshot" &&
          parent !== null &&
          (parent < i || parent === 11) && { parent: `i${parent}` }),
      }),
    ),
  );
const limits = fc.record({ maxAgeMs: fc.nat(4 * partialAgeMs), maxBytes: fc.nat(14) }, { requiredKeys: [] });

/** Each item takes one byte. */
function space(items: readonly Item[]) {
  return { usedBytes: items.length, remove: () => 1 };
}

function plan(items: readonly Item[], chosen: { maxAgeMs?: number; maxBytes?: number } = {}): Item[] {
  return planCollection(items, { nowMs, ...chosen }, space(items));
}

describe("a plan, whatever is in the store and whatever the limits are,", () => {
  it("never has what a name, a machine or work that goes on needs", () => {
    fc.assert(
      fc.property(stores, limits, (items, chosen) => {
        for (const item of plan(items, chosen)) {
          expect(item.tags).toEqual([]);
          expect(item.users).toEqual([]);
          expect(item.kind).not.toBe("machine");
        }
      }),
    );
  });

  it("never leaves a snapshot without an ancestor that it had, at any point of it", () => {
    fc.assert(
      fc.property(stores, limits, (items, chosen) => {
        const left = new Set(items);
        const { descendantsOf } = lineageOf(items);
        for (const item of plan(items, chosen)) {
          left.delete(item);
          expect(descendantsOf(item).filter((each) => left.has(each))).toEqual([]);
        }
      }),
    );
  });

  it("goes by kind, then by last use, a parent being as recent as its children", () => {
    fc.assert(
      fc.property(stores, limits, (items, chosen) => {
        const order = ["partial", "blob", "build", "snapshot"];
        const { descendantsOf } = lineageOf(items);
        const used = (item: Item) =>
          Math.max(item.lastUsedMs, ...descendantsOf(item).map((each) => each.lastUsedMs));
        const planned = plan(items, chosen);
        for (const [i, item] of planned.entries()) {
          const next = planned[i + 1];
          if (next === undefined) break;
          const step = order.indexOf(next.kind) - order.indexOf(item.kind);
          expect(step).toBeGreaterThanOrEqual(0);
          if (step === 0) expect(used(next)).toBeGreaterThanOrEqual(used(item));
        }
      }),
    );
  });

  it("takes nothing that is too young", () => {
    fc.assert(
      fc.property(stores, limits, (items, chosen) => {
        for (const { kind, lastUsedMs } of plan(items, chosen)) {
          const least = kind === "partial" ? partialAgeMs : (chosen.maxAgeMs ?? 0);
          expect(nowMs - lastUsedMs).toBeGreaterThanOrEqual(least);
        }
      }),
    );
  });

  it("ends at the size limit, or when nothing is left to take, and not before", () => {
    fc.assert(
      fc.property(stores, limits, (items, chosen) => {
        const { maxBytes = 0 } = chosen;
        const planned = plan(items, chosen);
        const all = plan(items, { ...chosen, maxBytes: 0 });
        expect(planned).toEqual(all.slice(0, planned.length));
        // Each was needed to get there, but for transfers that nobody goes on with: they go anyway.
        for (const [removed, { kind }] of planned.entries()) {
          if (kind !== "partial") expect(items.length - removed).toBeGreaterThan(maxBytes);
        }
        if (planned.length < all.length) {
          expect(items.length - planned.length).toBeLessThanOrEqual(maxBytes);
        }
      }),
    );
  });

  it("without limits takes all that nothing needs, but for young transfers", () => {
    fc.assert(
      fc.property(stores, (items) => {
        const kept = keptBy(items);
        const expected = items.filter(
          (item) =>
            !kept.has(item) &&
            item.kind !== "machine" &&
            (item.kind !== "partial" || nowMs - item.lastUsedMs >= partialAgeMs),
        );
        expect(new Set(plan(items))).toEqual(new Set(expected));
      }),
    );
  });
});

describe("what keeps a snapshot", () => {
  const snapshot = (id: string, more: Partial<Item> = {}): Item => {
    return { kind: "snapshot", id, lastUsedMs: 0, tags: [], users: [], ...more };
  };

  it("is its names, its users, and children that are kept, whatever keeps them", () => {
    const base = snapshot("base");
    const middle = snapshot("middle", { parent: "base" });
    const top = snapshot("top", { parent: "middle", users: ["machine web-1"] });
    const other = snapshot("other", { parent: "base" });
    const named = snapshot("named", { parent: "absent", tags: ["app:1", "app:2"] });
    const kept = keptBy([base, middle, top, other, named]);
    expect(kept.get(top)).toEqual(["machine web-1"]);
    expect(kept.get(middle)).toEqual(["child top"]);
    expect(kept.get(base)).toEqual(["child middle"]);
    expect(kept.has(other)).toBe(false);
    expect(kept.get(named)).toEqual(["tag app:1", "tag app:2"]);
  });

  it("is the name of a snapshot that it stands in for, if it was the last to do so", () => {
    const original = snapshot("original", { tags: ["app:1"] });
    const current = snapshot("current", { standsInFor: "original", lastUsedMs: 2 });
    const before = snapshot("before", { standsInFor: "original", lastUsedMs: 1 });
    const child = snapshot("child", { parent: "before" });
    const nameless = snapshot("nameless");
    const orphan = snapshot("orphan", { standsInFor: "nameless" });
    const lost = snapshot("lost", { standsInFor: "absent" });
    const kept = keptBy([original, before, current, child, nameless, orphan, lost]);
    expect([...kept]).toEqual([
      [original, ["tag app:1"]],
      [current, ["stands in for app:1"]],
    ]);
  });

  it("is found even if files were made to form a circle", () => {
    const one = snapshot("one", { parent: "two", tags: ["one:latest"] });
    const two = snapshot("two", { parent: "one" });
    expect([...keptBy([one, two]).keys()]).toEqual([one, two]);
    expect(plan([snapshot("a", { parent: "b" }), snapshot("b", { parent: "a" })])).toHaveLength(2);
  });
});
