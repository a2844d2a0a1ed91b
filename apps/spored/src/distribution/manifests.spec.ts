import { createRegistryClient, parseArtifact } from "@sporelet/oci";
import {
  imageValidator,
  type RecordedRequest,
  startTestRegistry,
  type TestRegistry,
  whyNoImageSchemas,
} from "@sporelet/oci/testing";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { storeForeign } from "../testing/foreign.ts";
import { startTestNode, type TestNode } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { push } from "./testing/transfers.ts";

const indexType = "application/vnd.oci.image.index.v1+json";

describe("what a push sends", () => {
  let node: TestNode;
  let registry: TestRegistry;
  /** Digests of snapshots for this host and for one of another kind. */
  let [own, foreign] = [] as string[];

  beforeAll(async () => {
    node = await startTestNode();
    const parent = await storeMadeUp(node.home, "parent", { ownBytes: 4096 });
    own = (await storeMadeUp(node.home, "own", { parent: "parent", ownBytes: 4096, offset: 8192 })).digest;
    foreign = await storeForeign(node.home, "own", "foreign", { vmm: { version: "1.0 of another kind" } });
    expect(new Set([parent.digest, own, foreign]).size).toBe(3);
  });
  beforeEach(async () => {
    registry = await startTestRegistry();
  });
  afterEach(async () => {
    await registry[Symbol.asyncDispose]();
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const named = (tag: string) => `${registry.address}/team/app:${tag}`;
  const tagged = (tag: string) => registry.manifests.get(`team/app:${tag}`)?.bytes ?? Buffer.alloc(0);
  const snapshotsOf = async (tag: string) => {
    await using client = createRegistryClient();
    const { bytes } = await client.repository(registry.address, "team/app").manifest(tag);
    const artifact = parseArtifact(bytes);
    return artifact.kind === "index" ? artifact.variants.map(({ snapshot }) => snapshot) : [];
  };

  it("is valid by the image specification's schemas, every manifest and the launcher's config", async (ctx) => {
    const reason = whyNoImageSchemas();
    if (reason !== undefined) return ctx.skip(reason);
    const problems = imageValidator();
    await push(node.client, { snapshot: "foreign", target: named("1") });
    await push(node.client, { snapshot: "own", target: named("1"), addVariant: true });
    const seen = { indexes: 0, manifests: 0, imageConfigs: 0 };
    for (const { mediaType, bytes } of registry.manifests.values()) {
      const value = JSON.parse(bytes.toString());
      expect(value.mediaType).toBe(mediaType);
      if (mediaType === indexType) {
        seen.indexes += 1;
        expect(problems("image-index-schema.json", value)).toEqual([]);
        continue;
      }
      seen.manifests += 1;
      expect(problems("image-manifest-schema.json", value)).toEqual([]);
      if (value.config.mediaType !== "application/vnd.oci.image.config.v1+json") continue;
      seen.imageConfigs += 1;
      const config = registry.blobs.get(value.config.digest) ?? Buffer.alloc(0);
      expect(problems("config-schema.json", JSON.parse(config.toString()))).toEqual([]);
    }
    // Two snapshots with a launcher each, and the tag beside the digests of both indexes.
    expect(seen).toEqual({ indexes: 3, manifests: 4, imageConfigs: 2 });
  });

  it("keeps the variants of several who add theirs to a tag at once", async () => {
    const target = named("1");
    await Promise.all(
      ["own", "foreign"].map((snapshot) => push(node.client, { snapshot, target, addVariant: true })),
    );
    expect((await snapshotsOf("1")).sort()).toEqual([own, foreign].sort());
  });

  /** Has somebody else write the tag as it was at first, between the write of ours and the look at it. */
  const overwrite = (tag: string, bytes: Buffer, times: number) => {
    let ours = false;
    let left = times;
    const on = ({ method, path }: RecordedRequest): boolean => {
      if (!path.endsWith(`/manifests/${tag}`)) return false;
      if (method === "PUT") ours = true;
      else if (ours && left > 0) {
        ours = false;
        left -= 1;
        registry.manifests.set(`team/app:${tag}`, { mediaType: indexType, bytes });
      }
      return false;
    };
    registry.faults.add({ on });
  };

  it("has its variant in the tag though another one from elsewhere wrote that at the same time", async () => {
    await push(node.client, { snapshot: "foreign", target: named("1") });
    overwrite("1", tagged("1"), 2);
    const { pushed } = await push(node.client, { snapshot: "own", target: named("1"), addVariant: true });
    expect(await snapshotsOf("1")).toEqual([own, foreign]);
    expect(registry.manifests.get(`team/app@${pushed.digest}`)?.bytes).toEqual(tagged("1"));
  });

  it("is not lost to an older variant for the same hosts that another one brings back", async () => {
    await push(node.client, { snapshot: "parent", target: named("1") });
    await push(node.client, { snapshot: "foreign", target: named("1"), addVariant: true });
    overwrite("1", tagged("1"), 1);
    await push(node.client, { snapshot: "own", target: named("1"), addVariant: true });
    expect(await snapshotsOf("1")).toEqual([own, foreign]);
  });

  it("is given up when others write the tag again and again", async () => {
    await push(node.client, { snapshot: "foreign", target: named("1") });
    overwrite("1", tagged("1"), Number.POSITIVE_INFINITY);
    const pushing = push(node.client, { snapshot: "own", target: named("1"), addVariant: true });
    await expect(pushing).rejects.toMatchObject({ code: "unavailable", hint: "try again" });
  });
});
