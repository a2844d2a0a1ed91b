import { open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import type { Digest } from "@sporelet/page-image";
import { describe, expect, it } from "vitest";
import { openStore, type PublishedLayer, type Store } from "./index.ts";
import { addSnapshot } from "./testing/snapshot.ts";

const digest = (digits: string): Digest => `sha256:${digits.padEnd(64, "0")}`;

async function withStore(run: (store: Store, root: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, "store");
  await run(await openStore({ root }), root);
}

/** Digests of a form that would be a path out of the store. */
const escapes = ["sha256:../../tags.json", "../x", "sha256:", "", `sha256:${"A".repeat(64)}`, "sha256:/etc"];

describe("blobs", () => {
  it("are there once they were put in place, for reading alone", () =>
    withStore(async ({ blobs }, root) => {
      expect(await blobs.has(digest("1"))).toBe(false);
      const arrived = await blobs.partial(digest("1"));
      await writeFile(arrived, "content");
      expect(await blobs.has(digest("1"))).toBe(false);
      await blobs.put(arrived, digest("1"));
      expect(await blobs.has(digest("1"))).toBe(true);
      expect(await readFile(blobs.path(digest("1")), "utf8")).toBe("content");
      expect((await stat(blobs.path(digest("1")))).mode & 0o777).toBe(0o400);
      expect(await readdir(join(root, "partial"))).toEqual([]);
    }));

  it("that have arrived in part are gone on with after a restart, or thrown away", () =>
    withStore(async (store, root) => {
      await writeFile(await store.blobs.partial(digest("2")), "con");
      const next = await openStore({ root });
      await next.sweep();
      expect(await readFile(await next.blobs.partial(digest("2")), "utf8")).toBe("con");
      await next.blobs.discardPartial(digest("2"));
      await next.blobs.discardPartial(digest("2"));
      expect(await readdir(join(root, "partial"))).toEqual([]);
    }));

  it("are removed by who has no more use for them, and stay with those who read them", () =>
    withStore(async ({ blobs }, root) => {
      const file = join(root, "tmp", "a");
      await writeFile(file, "content");
      await blobs.put(file, digest("4"));
      await using reader = await open(blobs.path(digest("4")));
      await blobs.remove(digest("4"));
      await blobs.remove(digest("4"));
      expect(await blobs.has(digest("4"))).toBe(false);
      expect(await reader.readFile("utf8")).toBe("content");
    }));

  it("that others have leased are not removed, unless they are damaged", () =>
    withStore(async ({ blobs, leaseBlobs }, root) => {
      const file = join(root, "tmp", "a");
      await writeFile(file, "content");
      await blobs.put(file, digest("4"));
      const [one, other] = ["one pull", "another"].map((holder) => leaseBlobs([digest("4")], holder));
      one?.[Symbol.dispose]();
      await blobs.remove(digest("4"));
      expect(await blobs.has(digest("4"))).toBe(true);
      await blobs.remove(digest("4"), { force: true });
      expect(await blobs.has(digest("4"))).toBe(false);
      other?.[Symbol.dispose]();
    }));

  it("can be leased while they are removed, and are then gone", () =>
    withStore(async ({ blobs, leaseBlobs }, root) => {
      const file = join(root, "tmp", "a");
      await writeFile(file, "content");
      await blobs.put(file, digest("4"));
      const removing = blobs.remove(digest("4"));
      using _ = leaseBlobs([digest("4")], "pull");
      expect(await blobs.has(digest("4"))).toBe(false);
      await removing;
    }));

  it("that are put twice are the same blob", () =>
    withStore(async ({ blobs }, root) => {
      for (const name of ["a", "b"]) {
        const file = join(root, "tmp", name);
        await writeFile(file, "content");
        await blobs.put(file, digest("3"));
      }
      expect(await readdir(join(root, "blobs"))).toHaveLength(1);
    }));

  it.each(escapes)("cannot have the digest %j", (text) =>
    withStore(async ({ blobs, lease }) => {
      const wrong = text as Digest;
      expect(() => blobs.path(wrong)).toThrow(/sha256: and 64 hex digits/);
      await expect(blobs.has(wrong)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(blobs.partial(wrong)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(blobs.put("/dev/null", wrong)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(blobs.remove(wrong)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(blobs.discardPartial(wrong)).rejects.toMatchObject({ code: "invalid_argument" });
      expect(() => lease(wrong, "test")).toThrow(/sha256: and 64 hex digits/);
    }),
  );
});

describe("what is known of a publication", () => {
  const layer: PublishedLayer = {
    file: "memory",
    mediaType: "application/vnd.sporelet.memory.v1",
    digest: digest("4"),
    sizeBytes: 17,
    annotations: { "ai.sporelet.layer": "0" },
  };
  const publication = { layers: [layer], origins: ["registry.example/shop"] };

  it("is kept beside the snapshot, over restarts", () =>
    withStore(async (store, root) => {
      const { digest: snapshot } = await addSnapshot(store, "shop");
      expect(await store.publications.get(snapshot)).toBeUndefined();
      await store.publications.set(snapshot, publication);
      expect(await (await openStore({ root })).publications.get(snapshot)).toEqual(publication);
      await store.verify(snapshot);
      await store.publications.delete(snapshot);
      await store.publications.delete(snapshot);
      expect(await store.publications.get(snapshot)).toBeUndefined();
    }));

  it.each([
    ["a file with another name", { file: "../../tags.json" }],
    ["a digest that is a path", { digest: "sha256:../x" }],
    ["a negative size", { sizeBytes: -1 }],
    ["an absurd size", { sizeBytes: 2 ** 60 }],
    ["annotations that are no text", { annotations: { a: 1 } }],
  ])("with %s is neither written nor believed", (_, wrong) =>
    withStore(async ({ publications }, root) => {
      const layers = [{ ...layer, ...wrong }] as PublishedLayer[];
      await expect(publications.set(digest("5"), { layers, origins: [] })).rejects.toMatchObject({
        code: "corrupt",
      });
      expect(await readdir(join(root, "publications"))).toEqual([]);
      const place = join(root, "publications", `${digest("5").slice(7)}.json`);
      await writeFile(place, JSON.stringify({ formatVersion: 1, layers, origins: [] }));
      await expect(publications.get(digest("5"))).rejects.toMatchObject({ code: "corrupt", subject: place });
    }),
  );

  it.each(escapes)("cannot be kept for the digest %j", (text) =>
    withStore(async ({ publications }) => {
      const wrong = text as Digest;
      await expect(publications.get(wrong)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(publications.set(wrong, publication)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(publications.delete(wrong)).rejects.toMatchObject({ code: "invalid_argument" });
    }),
  );
});
