import type { node as api } from "@sporelet/api";
import { whyNoMounts } from "@sporelet/host/testing";
import { annotationNames, type Descriptor, mediaTypes } from "@sporelet/oci";
import { limitRate, startTestRegistry } from "@sporelet/oci/testing";
import { expect, it } from "vitest";
import { pull, push } from "../distribution/testing/transfers.ts";
import { buildBase, shell, startTestNode, traces } from "../testing/node.ts";

it("runs a snapshot of a registry when a small part of it has come, what a resume touches first", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using here = await startTestNode();
  await using there = await startTestNode();
  await using registry = await startTestRegistry();
  const { digest } = await buildBase(here.client);
  await push(here.client, { snapshot: "base", target: `${registry.address}/team/base:1` });
  const manifests = [...registry.manifests.values()].map(({ bytes }) => JSON.parse(bytes.toString()));
  const layers: Descriptor[] = manifests.find(({ config }) => config?.mediaType === mediaTypes.config).layers;
  const [memory, workingset] = ["memory", "workingset"].map((kind) =>
    layers.find(({ mediaType }) => mediaType.includes(`.${kind}.`)),
  );
  // The build gives a recording 10 s, and goes on without it.
  if (memory === undefined || workingset === undefined) {
    return ctx.skip("no working set was recorded: the host is too busy");
  }
  const allBytes = layers.reduce((sum, { size }) => sum + size, 0);
  // So much that all of it takes seconds.
  await using link = await limitRate({ target: registry.address, bitsPerSecond: 50e6 });
  const before = registry.requests.length;

  const events: api.RunEvent["event"][] = [];
  let readyBytes = 0;
  const snapshot = `${link.address}/team/base:1`;
  for await (const { event } of there.client.run({ snapshot, name: "early" })) {
    events.push(event);
    if (event.case === "ready") readyBytes = link.sentBytes;
  }
  expect(events.map((event) => event.case)).toEqual(["ready"]);
  expect(readyBytes).toBeGreaterThan(workingset.size);
  expect(readyBytes).toBeLessThan(allBytes / 3);

  const reads = registry.requests.slice(before).filter(({ path }) => path.includes("/blobs/"));
  const asked = reads.findIndex(({ path }) => path.includes(workingset.digest));
  const indexAt = Number(memory.annotations?.[annotationNames.indexOffset]);
  const bulk = reads.findIndex(({ path, headers }) => {
    const from = Number(/^bytes=(\d+)-/.exec(headers.range ?? "")?.[1]);
    return path.includes(memory.digest) && from < indexAt;
  });
  expect(asked).toBeGreaterThanOrEqual(0);
  expect(bulk).toBeGreaterThan(asked);

  expect((await shell(there.client, "early", "echo it runs")).stdout).toBe("it runs\n");
  const { snapshot: whole } = await pull(there.client, { reference: snapshot });
  expect(whole.digest).toBe(digest);
  expect(await there.client.verifySnapshot({ snapshot })).toMatchObject({ verified: true });
  // Nothing came twice.
  expect(link.sentBytes).toBeLessThan(1.1 * allBytes);
  await there.client.removeMachine({ machine: "early", force: true });
  await expect.poll(() => traces(there.home), { timeout: 20_000 }).toEqual([]);
});
