import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { whyNoMounts } from "@sporelet/host/testing";
import { countPages, parseWorkingSet } from "@sporelet/page-image";
import { expect, it } from "vitest";
import { buildBase, startTestNode, traces } from "../testing/node.ts";

it("records what a clone of a new snapshot touches, and leaves nothing else", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using node = await startTestNode();
  const { digest } = await buildBase(node.client);
  const directory = path.join(node.home, "store/snapshots", digest.slice("sha256:".length));
  const set = parseWorkingSet(await readFile(path.join(directory, "workingset")));
  // An agent that answers needs some megabytes of the 64 that are not zero; huge pages would make it all of it.
  const pages = countPages(set);
  expect(pages).toBeGreaterThan(500);
  expect(pages).toBeLessThan(6000);
  expect(set.every(({ image, page, count }) => image === "memory" && page + count <= 65_536)).toBe(true);
  expect(await traces(node.home)).toEqual([]);
  expect(await readdir(path.join(node.home, "store/lazy"))).toEqual([]);
});
