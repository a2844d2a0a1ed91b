import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestNode, type TestNode, traces } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;
const kills = Number(process.env.SPORELET_TEST_KILLS ?? 100);
/** Each kill is followed by the start of a spored. */
const timeoutMs = kills * 10_000;

describe(`a spored that is killed at ${kills} instants`, () => {
  let node: TestNode;
  let registry: TestRegistry;

  beforeAll(async () => {
    [node, registry] = await Promise.all([startTestNode(), startTestRegistry()]);
    await storeMadeUp(node.home, "parent", { ownBytes: mebibyte });
    await push(node.client, { snapshot: "parent", target: named("parent") });
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
  });

  const named = (tag: string) => `${registry.address}/team/app:${tag}`;

  /**
   * Kills spored at instants spread over the time that the operation takes.
   *
   * @param look is called with the next spored at work, and says whether the operation had come to its end
   */
  const killedDuring = async (
    prepare: (n: number) => Promise<unknown>,
    operation: (n: number) => Promise<unknown>,
    look: (n: number) => Promise<void>,
  ): Promise<void> => {
    await prepare(0);
    const began = performance.now();
    await operation(0);
    const tookMs = performance.now() - began;
    await look(0);
    let finished = 0;
    for (let n = 1; n <= kills; n++) {
      await prepare(n);
      const going = operation(n).then(
        () => true,
        () => false,
      );
      await sleep((tookMs * 1.3 * n) / kills);
      await node.kill();
      if (await going) finished += 1;
      await node.reconnect();
      expect(await traces(node.home)).toEqual([]);
      await expectWhole();
      await look(n);
    }
    // Instants before and after the end: the whole of the operation was hit.
    expect(finished).toBeGreaterThan(0);
    expect(finished).toBeLessThan(kills);
  };

  /** All that can be seen, here and in the registry, is what it says it is. */
  const expectWhole = async (): Promise<void> => {
    for (const { digest } of (await node.client.listSnapshots({})).snapshots) {
      expect(await node.client.verifySnapshot({ snapshot: digest })).toMatchObject({ verified: true });
    }
    for (const [digest, bytes] of registry.blobs) expect(sha256(bytes)).toBe(digest);
    for (const { bytes } of registry.manifests.values()) {
      const { config, layers = [], manifests = [] } = JSON.parse(bytes.toString());
      for (const { digest } of [...layers, ...(config ? [config] : [])]) {
        expect(registry.blobs.has(digest)).toBe(true);
      }
      for (const { digest } of manifests) expect(registry.manifests.has(`team/app@${digest}`)).toBe(true);
    }
  };
  const sha256 = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

  it("in a push shows all of a snapshot or nothing, and sends the rest afterwards", {
    timeout: timeoutMs,
  }, async () => {
    const reused: bigint[] = [];
    const [manifests, blobs] = [new Set(registry.manifests.keys()), new Set(registry.blobs.keys())];
    await killedDuring(
      (n) =>
        storeMadeUp(node.home, `child${n}`, {
          parent: "parent",
          ownBytes: 2 * mebibyte,
          offset: 4 * mebibyte,
        }),
      (n) => push(node.client, { snapshot: `child${n}`, target: named(`child${n}`) }),
      async (n) => {
        const { pushed } = await push(node.client, { snapshot: `child${n}`, target: named(`child${n}`) });
        reused.push(pushed.reusedBytes);
        expect(registry.manifests.has(`team/app:child${n}`)).toBe(true);
        await node.client.removeSnapshot({ snapshot: `child${n}` });
        await node.client.collectCache({});
        expect(await readdir(path.join(node.home, "store/blobs"))).toEqual([]);
        // What this test has no more use for would only fill its memory.
        for (const key of registry.manifests.keys()) if (!manifests.has(key)) registry.manifests.delete(key);
        for (const key of registry.blobs.keys()) if (!blobs.has(key)) registry.blobs.delete(key);
      },
    );
    expect(reused.every((bytes) => bytes > mebibyte)).toBe(true);
  });

  it("in a pull leaves a whole snapshot or none, and fetches the rest afterwards", {
    timeout: timeoutMs,
  }, async () => {
    const { digest } = await storeMadeUp(node.home, "child", {
      ...{ parent: "parent", ownBytes: 2 * mebibyte, offset: 4 * mebibyte },
    });
    await push(node.client, { snapshot: "child", target: named("child") });
    for (const snapshot of (await node.client.listSnapshots({})).snapshots) {
      await node.client.removeSnapshot({ snapshot: snapshot.digest, force: true });
    }
    await killedDuring(
      () => node.client.collectCache({}),
      () => pull(node.client, { reference: named("child") }),
      async () => {
        for (const snapshot of (await node.client.listSnapshots({})).snapshots)
          expect(snapshot.digest).toBe(digest);
        const { snapshot } = await pull(node.client, { reference: named("child") });
        expect(snapshot).toMatchObject({ digest, tags: [named("child")] });
        expect(await readdir(path.join(node.home, "store/partial"))).toEqual([]);
        await node.client.removeSnapshot({ snapshot: digest });
      },
    );
  });
});
