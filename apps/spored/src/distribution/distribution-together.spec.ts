import { readdir } from "node:fs/promises";
import path from "node:path";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startTestNode, type TestNode } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;

describe("transfers at the same time", () => {
  let [here, there] = [] as unknown as [TestNode, TestNode];
  let registry: TestRegistry;
  let snapshot: StoredSnapshot;
  let reference: string;

  beforeAll(async () => {
    [here, there] = await Promise.all([startTestNode(), startTestNode()]);
    snapshot = await storeMadeUp(here.home, "sent", { ownBytes: 3 * mebibyte });
  });
  beforeEach(async () => {
    registry = await startTestRegistry();
    reference = `${registry.address}/team/app:1`;
    await push(here.client, { snapshot: "sent", target: reference });
  });
  afterEach(async () => {
    await forget();
    await registry[Symbol.asyncDispose]();
  });
  afterAll(async () => {
    await here?.[Symbol.asyncDispose]();
    await there?.[Symbol.asyncDispose]();
  });

  const forget = async (): Promise<void> => {
    for (const { digest } of (await there.client.listSnapshots({})).snapshots) {
      await there.client.removeSnapshot({ snapshot: digest });
    }
    await there.client.collectCache({});
    expect(await readdir(path.join(there.home, "store/blobs"))).toEqual([]);
  };
  /** The blob of its memory: the only large one. */
  const largest = () => [...registry.blobs].reduce((a, b) => (a[1].length > b[1].length ? a : b));
  /** Slow enough that the others come while it goes on. */
  const slowly = () => registry.faults.add({ on: `GET ${largest()[0]}`, bytesPerSecond: 4 * mebibyte });
  const transferring = ({ state, title }: { state: string; title: string }) =>
    state === "transferring" && title === "memory";

  it("of the same snapshot fetch it once, and all get it", async () => {
    slowly();
    const pulls = ["a", "b", "c"].map((tag) => pull(there.client, { reference, tag }));
    for (const { snapshot: pulled } of await Promise.all(pulls)) expect(pulled.digest).toBe(snapshot.digest);
    const [digest, bytes] = largest();
    expect(registry.sentBytes(digest)).toBe(bytes.length);
    const [only] = (await there.client.listSnapshots({})).snapshots;
    expect(only?.tags).toEqual(["a:latest", "b:latest", "c:latest"]);
  });

  it("of the same snapshot from another registry do not fail with the first one", async () => {
    await using other = await startTestRegistry();
    const elsewhere = `${other.address}/team/app:1`;
    await push(here.client, { snapshot: "sent", target: elsewhere });
    const [digest] = largest();
    const slowAndWrong = { bytesPerSecond: 4 * mebibyte, damage: true };
    registry.faults.add({ on: `GET ${digest}`, ...slowAndWrong, times: Number.POSITIVE_INFINITY });
    const begun = Promise.withResolvers<void>();
    const onItem = (item: { state: string; title: string }) => void (transferring(item) && begun.resolve());
    const first = pull(there.client, { reference }, { onItem });
    first.catch(begun.reject);
    await begun.promise;
    const second = pull(there.client, { reference: elsewhere });
    await expect(first).rejects.toMatchObject({ code: "corrupt" });
    expect((await second).snapshot.digest).toBe(snapshot.digest);
  });

  it("go on when whoever began them goes away", async () => {
    slowly();
    const leaving = new AbortController();
    const begun = Promise.withResolvers<void>();
    const first = pull(
      there.client,
      { reference, tag: "first" },
      { signal: leaving.signal, onItem: (item) => void (transferring(item) && begun.resolve()) },
    );
    first.catch(begun.reject);
    await begun.promise;
    const joined = Promise.withResolvers<void>();
    const second = pull(there.client, { reference, tag: "second" }, { onItem: () => joined.resolve() });
    second.catch(joined.reject);
    await joined.promise;
    leaving.abort();
    await expect(first).rejects.toMatchObject({ code: "cancelled" });
    expect((await second).snapshot.digest).toBe(snapshot.digest);
    const [digest, bytes] = largest();
    expect(registry.sentBytes(digest)).toBe(bytes.length);
    expect((await there.client.listSnapshots({})).snapshots.map(({ tags }) => tags)).toEqual([
      ["second:latest"],
    ]);
    expect(await there.client.verifySnapshot({ snapshot: "second" })).toMatchObject({ verified: true });
  });

  it("end when everybody has gone away, and are gone on with", async () => {
    slowly();
    const leaving = new AbortController();
    const onItem = (item: { state: string; title: string; doneBytes: bigint }) => {
      if (transferring(item) && item.doneBytes > mebibyte) leaving.abort();
    };
    const given = pull(there.client, { reference }, { signal: leaving.signal, onItem });
    await expect(given).rejects.toMatchObject({ code: "cancelled" });
    await there.client.settle({});
    expect((await there.client.listSnapshots({})).snapshots).toEqual([]);
    expect(await readdir(path.join(there.home, "store/tmp"))).toEqual([]);
    registry.faults.clear();
    const [digest, bytes] = largest();
    const before = registry.requests.length;
    await pull(there.client, { reference });
    const again = registry.requests.slice(before).filter((request) => request.path.includes(digest));
    expect(again.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThan(
      bytes.length - mebibyte / 2,
    );
  });

  it("of the same snapshot send it once", async () => {
    const before = registry.requests.length;
    await storeMadeUp(here.home, "new", { ownBytes: 3 * mebibyte });
    const targets = ["a", "b", "c"].map((tag) => `${registry.address}/team/new:${tag}`);
    registry.faults.add({ on: "PATCH", dropUploadAfterBytes: mebibyte });
    const all = await Promise.all(targets.map((target) => push(here.client, { snapshot: "new", target })));
    expect(new Set(all.map(({ pushed }) => pushed.digest)).size).toBe(1);
    const arrived = registry.requests
      .slice(before)
      .reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
    expect(arrived).toBeLessThan(5 * mebibyte);
    await pull(there.client, { reference: targets[2] ?? "" });
    await here.client.removeSnapshot({ snapshot: "new" });
  });

  it("share blobs that different snapshots have in common", async () => {
    await storeMadeUp(here.home, "child", { parent: "sent", ownBytes: 4096, offset: 8 * mebibyte });
    const other = `${registry.address}/team/app:2`;
    await push(here.client, { snapshot: "child", target: other });
    slowly();
    await Promise.all([pull(there.client, { reference }), pull(there.client, { reference: other })]);
    const [digest, bytes] = largest();
    expect(registry.sentBytes(digest)).toBe(bytes.length);
    for (const { digest: pulled } of (await there.client.listSnapshots({})).snapshots) {
      expect(await there.client.verifySnapshot({ snapshot: pulled })).toMatchObject({ verified: true });
    }
    await here.client.removeSnapshot({ snapshot: "child" });
  });

  it("and the collector do not harm each other", async () => {
    for (let n = 0; n < 10; n++) {
      await storeMadeUp(here.home, `gc${n}`, { parent: "sent", ownBytes: mebibyte });
    }
    for (const node of [here, there]) {
      let ended = false;
      let collected = 0;
      const collecting = (async () => {
        for (; !ended; collected++) await node.client.collectCache({});
      })();
      try {
        for (let n = 0; n < 10; n++) {
          const name = `${registry.address}/team/app:gc${n}`;
          if (node === here) {
            await push(here.client, { snapshot: `gc${n}`, target: name });
            await here.client.removeSnapshot({ snapshot: `gc${n}` });
          } else {
            const { snapshot: pulled } = await pull(there.client, { reference: name });
            expect(await there.client.verifySnapshot({ snapshot: name })).toMatchObject({ verified: true });
            // Without the name it may be taken while its child is fetched.
            if (n % 2 === 0) await there.client.removeSnapshot({ snapshot: pulled.digest });
          }
        }
      } finally {
        ended = true;
      }
      await collecting;
      expect(collected).toBeGreaterThan(0);
    }
  });
});
