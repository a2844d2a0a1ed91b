import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { mountXfs, whyNoMounts } from "@sporelet/host/testing";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fillVolume } from "../testing/fill.ts";
import { startTestNode, type TestNode } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;
const ownBytes = 16 * mebibyte;
const reason = whyNoMounts();

it("transfers to and from a full disk", (ctx) => {
  if (reason !== undefined) ctx.skip(reason);
});

describe.runIf(reason === undefined)("on a disk that is full", () => {
  let volume: Awaited<ReturnType<typeof mountXfs>>;
  let [here, there] = [] as unknown as [TestNode, TestNode];
  let registry: TestRegistry;
  let snapshot: StoredSnapshot;
  let reference: string;

  beforeAll(async () => {
    volume = await mountXfs();
    [here, there, registry] = await Promise.all([
      startTestNode(),
      startTestNode(volume.path),
      startTestRegistry(),
    ]);
    snapshot = await storeMadeUp(here.home, "sent", { ownBytes });
    reference = `${registry.address}/team/app:1`;
    await push(here.client, { snapshot: "sent", target: reference });
  });
  afterAll(async () => {
    await here?.[Symbol.asyncDispose]();
    await there?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
    await volume?.[Symbol.asyncDispose]();
  });

  /** Takes all room but so much; disposing gives it back. */
  const fill = (name: string, leftBytes: number) => fillVolume(volume.path, name, leftBytes, 4096);
  const inStore = (place: string) => readdir(path.join(there.home, "store", place));
  const expectNothing = async (): Promise<void> => {
    expect((await there.client.listSnapshots({})).snapshots).toEqual([]);
    expect(await inStore("tmp")).toEqual([]);
  };
  const full = { code: "resource_exhausted", hint: expect.any(String) };

  it("nothing is fetched of what cannot fit", async () => {
    // Room for the blobs, but not for the files that are made of them.
    for (const leftBytes of [mebibyte, ownBytes + 8 * mebibyte]) {
      await using _filler = await fill("filler", leftBytes);
      const before = registry.sentBytes(largest());
      await expect(pull(there.client, { reference })).rejects.toMatchObject({
        ...full,
        reason: expect.stringMatching(/it needs \d+ MiB, and the store has \d+ MiB left/),
      });
      expect(registry.sentBytes(largest())).toBe(before);
      expect(await inStore("partial")).toEqual([]);
      await expectNothing();
    }
  });
  const largest = () => [...registry.blobs].reduce((a, b) => (a[1].length > b[1].length ? a : b))[0];

  it("a pull ends with nothing half-made, whenever the disk fills up, and goes on when there is room", async () => {
    let refused = 0;
    for (const stage of [1, 4, 8, 12, 15].map((done) => done * mebibyte)) {
      registry.faults.add({ on: `GET ${largest()}`, bytesPerSecond: 32 * mebibyte });
      const reached = Promise.withResolvers<void>();
      const going = pull(
        there.client,
        { reference },
        {
          onItem: ({ title, doneBytes }) =>
            void (title === "memory" && doneBytes >= stage && reached.resolve()),
        },
      ).then(
        () => undefined,
        (error) => error,
      );
      await Promise.race([reached.promise, going]);
      {
        await using _filler = await fill("filler", 0);
        const error = await going;
        if (error !== undefined) {
          refused += 1;
          expect(error).toMatchObject(full);
          await expectNothing();
        }
      }
      registry.faults.clear();
      expect((await pull(there.client, { reference })).snapshot.digest).toBe(snapshot.digest);
      expect(await there.client.verifySnapshot({ snapshot: reference })).toMatchObject({ verified: true });
      await there.client.removeSnapshot({ snapshot: reference });
      await there.client.collectCache({});
      expect(await inStore("blobs")).toEqual([]);
    }
    expect(refused).toBeGreaterThan(0);
  });

  it("a push ends with nothing half-made and nothing shown, and succeeds when there is room", async () => {
    await pull(there.client, { reference });
    await rm(path.join(there.home, "store/publications"), { recursive: true });
    await there.client.collectCache({});
    await there.kill();
    await there.reconnect();
    const target = `${registry.address}/team/again:1`;
    {
      await using _filler = await fill("filler", 4 * mebibyte);
      await expect(push(there.client, { snapshot: reference, target })).rejects.toMatchObject(full);
      expect(await inStore("tmp")).toEqual([]);
      expect([...registry.manifests.keys()].filter((key) => key.startsWith("team/again"))).toEqual([]);
    }
    const { pushed } = await push(there.client, { snapshot: reference, target });
    expect(pushed.snapshot).toBe(snapshot.digest);
    await there.client.removeSnapshot({ snapshot: reference });
  });
});
