import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cacheKey, type KeyPart, openStore, type Store } from "./index.ts";

async function withStore(run: (store: Store, root: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory();
  await run(await openStore({ root: directory.path }), directory.path);
}

const key = cacheKey("a recipe");

describe("the build cache", () => {
  it("creates a result once and finds it afterwards", () =>
    withStore(async (store) => {
      const create = (directory: string) => writeFile(join(directory, "disk"), "content");
      const first = await store.cache.getOrCreate("rootfs", key, create);
      const second = await store.cache.getOrCreate("rootfs", key, () => expect.fail("created again"));
      expect(first.cached).toBe(false);
      expect(second).toEqual({ directory: first.directory, cached: true });
      expect(await readFile(join(second.directory, "disk"), "utf8")).toBe("content");
    }));

  it("keeps stages and keys apart", () =>
    withStore(async (store) => {
      const make = (name: string) => (directory: string) => writeFile(join(directory, "name"), name);
      const entries = [
        await store.cache.getOrCreate("kernel", key, make("one")),
        await store.cache.getOrCreate("rootfs", key, make("two")),
        await store.cache.getOrCreate("rootfs", cacheKey("other"), make("three")),
      ];
      const names = entries.map(({ directory }) => readFile(join(directory, "name"), "utf8"));
      expect(await Promise.all(names)).toEqual(["one", "two", "three"]);
    }));

  it("has callers of one key at the same time share one creation", () =>
    withStore(async (store) => {
      let creations = 0;
      const create = async (directory: string) => {
        creations++;
        await writeFile(join(directory, "x"), "x");
      };
      const results = await Promise.all(
        Array.from({ length: 10 }, () => store.cache.getOrCreate("rootfs", key, create)),
      );
      expect(creations).toBe(1);
      expect(results.filter(({ cached }) => !cached)).toHaveLength(1);
    }));

  it("creates for those who still want it when the one who began gives up", () =>
    withStore(async (store) => {
      const abort = new AbortController();
      const began = Promise.withResolvers<void>();
      const first = store.cache.getOrCreate(
        "rootfs",
        key,
        () => {
          began.resolve();
          return new Promise((_, reject) => {
            abort.signal.addEventListener("abort", () => reject(abort.signal.reason));
          });
        },
        { signal: abort.signal },
      );
      await began.promise;
      const second = store.cache.getOrCreate("rootfs", key, (into) => writeFile(join(into, "x"), "second"));
      abort.abort();
      await expect(first).rejects.toMatchObject({ code: "cancelled" });
      expect(await readFile(join((await second).directory, "x"), "utf8")).toBe("second");
    }));

  it("lets one who waits for another's creation give up alone", () =>
    withStore(async (store) => {
      const finish = Promise.withResolvers<void>();
      const first = store.cache.getOrCreate("rootfs", key, () => finish.promise);
      const signal = AbortSignal.timeout(1);
      const second = store.cache.getOrCreate("rootfs", key, () => expect.fail("created twice"), { signal });
      await expect(second).rejects.toMatchObject({ code: "deadline_exceeded" });
      finish.resolve();
      expect((await first).cached).toBe(false);
    }));

  it("keeps nothing of a creation that failed, and tries again the next time", () =>
    withStore(async (store, root) => {
      const fail = async (directory: string) => {
        await writeFile(join(directory, "half"), "x");
        throw new Error("no network");
      };
      await expect(store.cache.getOrCreate("rootfs", key, fail)).rejects.toThrow("no network");
      expect(await readdir(join(root, "cache"))).toEqual([]);
      expect(await readdir(join(root, "tmp"))).toEqual([]);
      expect((await store.cache.getOrCreate("rootfs", key, async () => {})).cached).toBe(false);
    }));

  it("replaces a result when it is told to", () =>
    withStore(async (store, root) => {
      const make = (text: string) => (directory: string) => writeFile(join(directory, "x"), text);
      await store.cache.getOrCreate("rootfs", key, make("old"));
      const { directory, cached } = await store.cache.getOrCreate("rootfs", key, make("new"), {
        refresh: true,
      });
      expect(cached).toBe(false);
      expect(await readFile(join(directory, "x"), "utf8")).toBe("new");
      expect(await readdir(join(root, "tmp"))).toEqual([]);
    }));

  it.each(["..", "a/b", "", "/etc"])("is not led out of its directory by the key %j", (bad) =>
    withStore(async (store) => {
      const create = () => expect.fail("created");
      await expect(store.cache.getOrCreate("rootfs", bad, create)).rejects.toMatchObject({
        code: "invalid_argument",
      });
      await expect(store.cache.getOrCreate(bad, key, create)).rejects.toMatchObject({
        code: "invalid_argument",
      });
    }),
  );
});

describe("cache keys", () => {
  const { part } = fc.letrec<{ part: KeyPart }>((tie) => ({
    part: fc.oneof(
      { depthSize: "small" },
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.uint8Array({ maxLength: 4 }),
      fc.array(tie("part"), { maxLength: 3 }),
      fc.dictionary(fc.string(), tie("part"), { maxKeys: 3, noNullPrototype: true }),
    ),
  }));

  /** Equal as data: what a key has to tell apart. */
  const normal = (value: KeyPart): unknown => {
    if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString("hex") };
    if (Array.isArray(value)) return { list: value.map(normal) };
    if (typeof value === "object" && value !== null) {
      const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
      return { object: entries.map(([name, item]) => [name, normal(item ?? null)]) };
    }
    return value === 0 ? 0 : value; // -0 is 0 in JSON.
  };

  it("are equal exactly when all parts are", () => {
    const parts = fc.array(part, { maxLength: 4 });
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        const equal = JSON.stringify(a.map(normal)) === JSON.stringify(b.map(normal));
        expect(cacheKey(...a) === cacheKey(...b)).toBe(equal);
        expect(cacheKey(...a)).toBe(cacheKey(...structuredClone(a)));
      }),
      { numRuns: 500 },
    );
  });

  it("do not depend on the order of properties, nor on undefined ones", () => {
    expect(cacheKey({ a: 1, b: undefined, c: [2] })).toBe(cacheKey({ c: [2], a: 1 }));
  });

  it("tell apart what looks alike", () => {
    const keys = [
      cacheKey("ab", "c"),
      cacheKey("a", "bc"),
      cacheKey("abc"),
      cacheKey(["a", "bc"]),
      cacheKey(1),
      cacheKey("1"),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });
});
