import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startTestNode, type TestNode } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;

describe("a pull of a chain", () => {
  let [here, there] = [] as unknown as [TestNode, TestNode];
  let registry: TestRegistry;
  let reference: string;

  beforeAll(async () => {
    [here, there, registry] = await Promise.all([startTestNode(), startTestNode(), startTestRegistry()]);
    await storeMadeUp(here.home, "sent", { ownBytes: 3 * mebibyte });
    reference = `${registry.address}/team/app:1`;
    await push(here.client, { snapshot: "sent", target: reference });
  });
  afterEach(async () => {
    await forget();
  });
  afterAll(async () => {
    await here?.[Symbol.asyncDispose]();
    await there?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
  });

  /** Nothing is on the second node any more. */
  const forget = async (): Promise<void> => {
    for (const { digest } of (await there.client.listSnapshots({})).snapshots) {
      await there.client.removeSnapshot({ snapshot: digest, force: true });
    }
    await there.client.collectCache({});
  };
  /** The blob of the memory of its base: the only large one. */
  const largest = () => [...registry.blobs].reduce((a, b) => (a[1].length > b[1].length ? a : b))[0];

  it("fetches only what a parent that is here lacks", async () => {
    await storeMadeUp(here.home, "child", { parent: "sent", ownBytes: mebibyte, offset: 8 * mebibyte });
    const base = largest();
    const target = `${registry.address}/team/app:2`;
    await push(here.client, { snapshot: "child", target });
    await pull(there.client, { reference });
    await there.client.collectCache({});
    const before = registry.sentBytes(base);
    const { snapshot: child } = await pull(there.client, { reference: target });
    expect(registry.sentBytes(base)).toBe(before);
    expect(await there.client.verifySnapshot({ snapshot: child.digest })).toMatchObject({ verified: true });
    // Without the parent all of the chain.
    await forget();
    await pull(there.client, { reference: target });
    expect(registry.sentBytes(base)).toBeGreaterThan(before);
    await here.client.removeSnapshot({ snapshot: "child" });
  });

  it("tells steps of a chain by their place, not by their content", async () => {
    // The disk is written, written over, and again as it was.
    const [one, other] = [Buffer.alloc(4096, 1), Buffer.alloc(4096, 2)];
    const names = ["chain0", "chain1", "chain2", "chain3"];
    for (const [i, disk] of [Buffer.alloc(4096, 9), one, other, one].entries()) {
      const parent = i === 0 ? {} : { parent: `chain${i - 1}` };
      await storeMadeUp(here.home, `chain${i}`, { ...parent, disk, ownBytes: 4096 });
    }
    for (const name of names) {
      const target = `${registry.address}/team/chain:${name}`;
      await push(here.client, { snapshot: name, target });
      const { snapshot: pulled } = await pull(there.client, { reference: target });
      expect(await there.client.verifySnapshot({ snapshot: pulled.digest })).toMatchObject({
        verified: true,
      });
    }
    for (const name of names.reverse()) await here.client.removeSnapshot({ snapshot: name });
  });
});
