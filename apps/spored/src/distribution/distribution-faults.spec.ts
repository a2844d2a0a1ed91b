import { createHash } from "node:crypto";
import { readdir, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { type Fault, startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startTestNode, type TestNode } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;
const ownBytes = 3 * mebibyte;

/** A fault that trying again does not help against. */
const always = (fault: Fault): Fault => ({ ...fault, times: Number.POSITIVE_INFINITY });

/** The connection is lost on the way. */
const lostAfter = (on: string): Fault => ({ on, dropAfterBytes: mebibyte });

describe("a registry with faults", () => {
  let [here, there] = [] as unknown as [TestNode, TestNode];
  let registry: TestRegistry;
  let snapshot: StoredSnapshot;
  let reference: string;

  beforeAll(async () => {
    [here, there] = await Promise.all([startTestNode(), startTestNode()]);
    snapshot = await storeMadeUp(here.home, "sent", { ownBytes });
  });
  beforeEach(async () => {
    registry = await startTestRegistry();
    reference = `${registry.address}/team/app:1`;
  });
  afterEach(async () => {
    await registry[Symbol.asyncDispose]();
    await forget();
  });
  afterAll(async () => {
    await here?.[Symbol.asyncDispose]();
    await there?.[Symbol.asyncDispose]();
  });

  /** Nothing of it is on the second node any more. */
  const forget = async (): Promise<void> => {
    for (const { digest } of (await there.client.listSnapshots({})).snapshots) {
      await there.client.removeSnapshot({ snapshot: digest });
    }
    await there.client.collectCache({});
  };
  const inStore = ({ home }: TestNode, place: string) => readdir(path.join(home, "store", place));
  const blobsOf = async () =>
    (await inStore(here, "blobs")).map((hex): `sha256:${string}` => `sha256:${hex}`);
  /** The blob of its memory: the only large one. */
  const largest = () => [...registry.blobs].reduce((a, b) => (a[1].length > b[1].length ? a : b))[0];

  const expectNothingVisible = async (node: TestNode, snapshots: number): Promise<void> => {
    expect((await node.client.listSnapshots({})).snapshots).toHaveLength(snapshots);
    expect(await inStore(node, "tmp")).toEqual([]);
  };
  const expectPulled = async (): Promise<void> => {
    const pulled = await pull(there.client, { reference });
    expect(pulled.snapshot.digest).toBe(snapshot.digest);
    expect(await there.client.verifySnapshot({ snapshot: reference })).toMatchObject({ verified: true });
    expect(await inStore(there, "partial")).toEqual([]);
  };
  const pushIt = () => push(here.client, { snapshot: "sent", target: reference });

  describe("while pulling", () => {
    it.each<[string, (blob: string) => Fault[]]>([
      [
        "drops connections",
        (blob) => [
          { on: blob, dropAfterBytes: 0 },
          { on: blob, dropAfterBytes: 1000, times: 3 },
        ],
      ],
      ["asks for patience", () => [{ status: 429, headers: { "retry-after": "0" }, times: 4 }]],
      [
        "is not well",
        (blob) => [
          { status: 503, times: 2 },
          { on: blob, status: 500, times: 2 },
        ],
      ],
      [
        "sends less than it was asked for",
        (blob) => [lostAfter(blob), always({ on: blob, truncateToBytes: mebibyte })],
      ],
      ["knows no ranges", (blob) => [lostAfter(blob), always({ on: "GET /blobs/", ignoreRange: true })]],
    ])("succeeds though it %s", async (_, faults) => {
      await pushIt();
      registry.faults.add(...faults(`GET /blobs/${largest()}`));
      await expectPulled();
    });

    it("fetches from another host, which gets no credentials", async () => {
      await registry[Symbol.asyncDispose]();
      const [username, password] = ["somebody", "not for others"];
      registry = await startTestRegistry({ auth: { kind: "basic", username, password } });
      reference = `${registry.address}/team/app:1`;
      await using docker = await temporaryDirectory();
      const auth = Buffer.from(`${username}:${password}`).toString("base64");
      const config = { auths: { [registry.address]: { auth } } };
      await writeFile(path.join(docker.path, "config.json"), JSON.stringify(config));
      const access = { registry: { dockerConfig: docker.path } };
      await push(here.client, { snapshot: "sent", target: reference, ...access });
      registry.faults.add(always({ on: "registry GET /blobs/", redirect: true }));
      await expect(pull(there.client, { reference })).rejects.toMatchObject({ code: "permission_denied" });
      await pull(there.client, { reference, ...access });
      expect(
        registry.asked("registry GET").some(({ headers }) => headers.authorization?.includes(auth)),
      ).toBe(true);
      expect(registry.asked("storage GET").length).toBeGreaterThan(3);
      for (const { headers } of registry.asked("storage")) expect(headers.authorization).toBeUndefined();
      expect(await there.client.verifySnapshot({ snapshot: reference })).toMatchObject({ verified: true });
    });

    it.each<[string, Fault, string]>([
      ["is gone", { dropAfterBytes: 0 }, "unavailable"],
      ["always asks for patience", { on: "/blobs/", status: 429 }, "unavailable"],
      ["is broken", { on: "/blobs/", status: 500 }, "unavailable"],
      ["damages blobs", { on: "GET /blobs/", damage: true }, "corrupt"],
      ["damages manifests", { on: "GET /manifests/sha256", damage: true }, "corrupt"],
      [
        "serves other ranges than those asked for",
        { on: (request) => request.headers.range !== undefined, shiftRangeBytes: 7 },
        "corrupt",
      ],
      ["lost a blob", { on: "GET /blobs/", status: 404 }, "not_found"],
      ["lets nobody in", { status: 403 }, "permission_denied"],
    ])("ends with an error when it %s, and goes on when it is well again", async (_, fault, code) => {
      await pushIt();
      // A connection is lost first, so that there is something to go on with.
      registry.faults.add(lostAfter(`GET ${largest()}`), always(fault));
      await expect(pull(there.client, { reference })).rejects.toMatchObject({
        code,
        reason: expect.any(String),
      });
      await expectNothingVisible(there, 0);
      registry.faults.clear();
      await expectPulled();
    });

    it("goes on where an earlier attempt stopped", async () => {
      await pushIt();
      const blob = largest();
      const size = registry.blobs.get(blob)?.length ?? 0;
      registry.faults.add(
        { on: `GET ${blob}`, dropAfterBytes: 2 * mebibyte },
        always({ on: `GET ${blob}`, status: 500 }),
      );
      await expect(pull(there.client, { reference })).rejects.toMatchObject({ code: "unavailable" });
      await expectNothingVisible(there, 0);
      expect(await inStore(there, "partial")).toContain(blob.slice("sha256:".length));
      registry.faults.clear();
      const before = registry.requests.length;
      await expectPulled();
      const again = registry.requests.slice(before).filter(({ path: where }) => where.includes(blob));
      const sentBytes = again.reduce((sum, request) => sum + request.sentBytes, 0);
      expect(sentBytes).toBeGreaterThan(0);
      expect(sentBytes).toBeLessThanOrEqual(size - mebibyte);
    });

    it("is asked for everything when what an earlier attempt left is damaged", async () => {
      await pushIt();
      const blob = largest();
      const left = path.join(there.home, "store/partial", blob.slice("sha256:".length));
      await writeFile(left, Buffer.alloc(2 * mebibyte, 1));
      await expectPulled();
      expect(registry.sentBytes(blob)).toBeGreaterThan(registry.blobs.get(blob)?.length ?? 0);
    });

    it("takes nothing that a digest does not stand for, and nothing of it stays", async () => {
      await pushIt();
      for (const digest of await blobsOf()) {
        const honest = registry.blobs.get(digest);
        if (honest === undefined) continue;
        registry.blobs.set(digest, Buffer.alloc(honest.length, 7));
        await expect(pull(there.client, { reference })).rejects.toMatchObject({ code: "corrupt" });
        registry.blobs.set(digest, honest);
        await expectNothingVisible(there, 0);
        expect(await inStore(there, "blobs")).not.toContain(digest.slice("sha256:".length));
        await there.client.collectCache({});
      }
      await expectPulled();
    });
  });

  describe("while pushing", () => {
    const expectPushed = async (): Promise<void> => {
      const { pushed } = await pushIt();
      expect(pushed.snapshot).toBe(snapshot.digest);
      for (const [digest, bytes] of registry.blobs) {
        expect(`sha256:${createHash("sha256").update(bytes).digest("hex")}`).toBe(digest);
      }
      await expectPulled();
    };

    it.each<[string, Fault[]]>([
      [
        "drops connections",
        [
          { on: "PATCH", dropUploadAfterBytes: 100_000, times: 2 },
          { on: "PUT", dropAfterBytes: 0, times: 2 },
        ],
      ],
      ["asks for patience", [{ status: 429, headers: { "retry-after": "0" }, times: 4 }]],
      [
        "is not well",
        [
          { status: 503, times: 2 },
          { on: "PATCH", status: 500, times: 2 },
          { on: "PUT", status: 502 },
        ],
      ],
      [
        "forgets uploads",
        [
          { on: "PATCH", expireUploads: true },
          { on: "PUT /uploads/", expireUploads: true },
        ],
      ],
    ])("succeeds though it %s", async (_, faults) => {
      registry.faults.add(...faults);
      await expectPushed();
    });

    it.each<[string, Fault, string]>([
      ["is gone", { dropAfterBytes: 0 }, "unavailable"],
      ["is full", { on: "PATCH", status: 507 }, "resource_exhausted"],
      ["takes no manifests", { on: "PUT /manifests/", status: 500 }, "unavailable"],
      ["lets nobody write", { on: "POST", status: 403 }, "permission_denied"],
    ])(
      "ends with an error when it %s, shows nothing, and goes on when it is well again",
      async (_, fault, code) => {
        registry.faults.add(always(fault));
        await expect(pushIt()).rejects.toMatchObject({ code, reason: expect.any(String) });
        expect([...registry.manifests.keys()].filter((key) => key.includes(":1"))).toEqual([]);
        expect(await inStore(here, "tmp")).toEqual([]);
        registry.faults.clear();
        await expectPushed();
      },
    );

    it("is sent no blob that was damaged here, but one that is encoded anew", async () => {
      await pushIt();
      for (const hex of await inStore(here, "blobs")) {
        await truncate(path.join(here.home, "store/blobs", hex), 10);
      }
      await registry[Symbol.asyncDispose]();
      registry = await startTestRegistry();
      reference = `${registry.address}/team/app:1`;
      await expectPushed();
    });

    it("sends nothing twice after it was interrupted", async () => {
      registry.faults.add(always({ on: "PUT /manifests/", status: 500 }));
      await expect(pushIt()).rejects.toMatchObject({ code: "unavailable" });
      registry.faults.clear();
      const { pushed } = await pushIt();
      expect(Number(pushed.sentBytes)).toBeLessThan(16 * 1024);
      expect(Number(pushed.reusedBytes)).toBeGreaterThan(ownBytes);
    });
  });
});
