import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createSupply } from "./supply.ts";

/** A source that notes what exists. It fails for as long as `broken` says so. */
function factory() {
  const existing = new Set<string>();
  let made = 0;
  const source = {
    existing,
    broken: false,
    async make(count: number) {
      await Promise.resolve();
      if (source.broken) throw new Error("out of order");
      const names = Array.from({ length: count }, () => `n${made++}`);
      for (const name of names) existing.add(name);
      return names;
    },
    async remove(names: string[]) {
      for (const name of names) existing.delete(name);
    },
  };
  return source;
}

describe("a supply", () => {
  it("hands out each thing once, and keeps no more than it should, whoever comes and goes", async () => {
    const steps = fc.array(fc.constantFrom("take", "takeAndAbort", "fill", "settle"), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(3), async (actions, spare) => {
        const source = factory();
        const supply = createSupply(source, { spare });
        const taking: Promise<string | undefined>[] = [];
        for (const action of actions) {
          if (action === "fill") void supply.fill();
          else if (action === "settle") await supply.settled();
          else {
            const abort = new AbortController();
            taking.push(supply.take(abort.signal).catch(() => undefined));
            if (action === "takeAndAbort") abort.abort();
          }
        }
        const taken = (await Promise.all(taking)).filter((name) => name !== undefined);
        await supply.fill();
        expect(new Set(taken).size).toBe(taken.length);
        expect(supply.ready()).toHaveLength(spare);
        expect(new Set([...taken, ...supply.ready()])).toEqual(source.existing);
        await supply.close(new Error("closed"));
        expect(source.existing).toEqual(new Set(taken));
      }),
    );
  });

  it("fails for all who wait when nothing can be made, and works again when it can", async () => {
    const source = factory();
    const supply = createSupply(source, { spare: 0 });
    source.broken = true;
    const results = await Promise.allSettled([supply.take(), supply.take()]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    source.broken = false;
    expect(await supply.take()).toBe("n0");
  });

  it("that is closed gives nothing more, also to those who wait", async () => {
    const supply = createSupply(factory(), { spare: 1 });
    const waiting = supply.take();
    const closing = supply.close(new Error("closed"));
    await expect(waiting).rejects.toThrow("closed");
    await closing;
    await expect(supply.take()).rejects.toThrow("closed");
  });

  it("gives one that is ready at once or none, and makes another when nobody takes more", async () => {
    const supply = createSupply(factory(), { spare: 2, batchSize: 1 });
    expect(supply.takeReady()).toBeUndefined();
    await supply.fill();
    expect(supply.takeReady()).toBe("n0");
    expect(supply.ready()).toEqual(["n1"]);
    await supply.fill();
    expect(supply.ready()).toEqual(["n1", "n2"]);
    await supply.close(new Error("closed"));
  });

  it("forgets one that was lost, and keeps as many as it is told to", async () => {
    const source = factory();
    const supply = createSupply(source, { spare: 3 });
    await supply.fill();
    source.existing.delete("n1");
    supply.drop("n1");
    await supply.resize(1);
    expect([...source.existing]).toEqual(["n0"]);
    await supply.resize(2);
    await supply.fill();
    expect(supply.ready()).toEqual([...source.existing]);
    expect(supply.ready()).toHaveLength(2);
    await supply.close(new Error("closed"));
  });

  it("tells of what could not be removed, and goes on", async () => {
    const source = factory();
    const told: unknown[] = [];
    const remove = async (names: string[]) => {
      if (names.length > 0) throw new Error("stuck");
    };
    const supply = createSupply(
      { ...source, remove },
      { spare: 2, onError: (error) => void told.push(error) },
    );
    const filled = supply.fill();
    const fewer = supply.resize(1);
    await filled;
    await fewer;
    expect(told).toEqual([new Error("stuck")]);
    expect(supply.ready()).toHaveLength(1);
  });

  describe("that is taken from", () => {
    afterEach(() => {
      vi.useRealTimers();
    });
    const full = async () => {
      vi.useFakeTimers();
      const supply = createSupply(factory(), { spare: 2 });
      await supply.fill();
      return supply;
    };

    it("is filled when nobody has taken any for a moment", async () => {
      const supply = await full();
      supply.takeReady();
      await vi.advanceTimersByTimeAsync(200);
      supply.takeReady();
      await vi.advanceTimersByTimeAsync(200);
      expect(supply.ready()).toHaveLength(0);
      await vi.advanceTimersByTimeAsync(200);
      expect(supply.ready()).toHaveLength(2);
    });

    it("is filled within a second when somebody always does", async () => {
      const supply = await full();
      let taken = 0;
      for (let passedMs = 0; passedMs < 2000; passedMs += 200) {
        if (supply.takeReady() !== undefined) taken += 1;
        await vi.advanceTimersByTimeAsync(200);
      }
      expect(taken).toBeGreaterThanOrEqual(4);
    });
  });
});
