import { expect, it } from "vitest";
import { storeMadeUp } from "./distribution/testing/made-up.ts";
import { openLocalNode } from "./lazy/testing/local-node.ts";
import { removeUnnamed } from "./snapshots.ts";

it("a snapshot without a name goes, one with a name stays, and neither is an error", async () => {
  await using local = await openLocalNode();
  const { node } = local;
  const { digest } = await storeMadeUp(node.home, "made:1", { ownBytes: 4096 });
  await removeUnnamed(node, digest);
  expect((await node.store.list()).map((each) => each.digest)).toEqual([digest]);
  await node.store.untag("made:1");
  await removeUnnamed(node, digest);
  expect(await node.store.list()).toEqual([]);
  await removeUnnamed(node, digest);
  expect(local.log.filter((line) => line.includes("not removed"))).toEqual([]);
});
