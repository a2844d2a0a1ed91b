import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { annotationNames } from "@sporelet/oci";
import { openStore, type PublishedLayer } from "@sporelet/store";
import { expect, it } from "vitest";
import { localBase } from "./local-base.ts";
import { storeMadeUp } from "./testing/made-up.ts";

const digest = (digit: string): `sha256:${string}` => `sha256:${digit.repeat(64)}`;
const memory = (blob: string, index: string): PublishedLayer => ({
  ...{ file: "memory", mediaType: "m", digest: digest(blob), sizeBytes: 1000 },
  annotations: { [annotationNames.indexDigest]: digest(index) },
});

it("takes a snapshot for a base only when its steps have the same blobs, and those the same index", async () => {
  await using home = await temporaryDirectory();
  const snapshot = await storeMadeUp(home.path, "here");
  const store = await openStore({ root: path.join(home.path, "store") });
  const layers = [memory("a", "1"), memory("b", "2")];
  await store.publications.set(snapshot.digest, { layers, origins: [] });
  const stepsFor = async (chain: PublishedLayer[]) => {
    using base = await localBase({ store }, chain);
    return base?.steps.memory;
  };
  const own = memory("c", "3");
  expect(await stepsFor([...layers, own])).toBe(2);
  expect(await stepsFor([memory("a", "1"), memory("d", "2"), own])).toBeUndefined();
  // The same blob, or so somebody's manifest says, who has other pages in it.
  expect(await stepsFor([memory("a", "1"), memory("b", "4"), own])).toBeUndefined();
});
