import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startTestNode, type TestNode } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;
const repository = "team/app";

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations: Record<string, string>;
}

/** What a manifest says, to be written as somebody would who means harm. */
interface Manifest {
  artifactType?: string;
  config: Descriptor;
  layers: Descriptor[];
}

interface Config {
  files: Record<string, object>;
}

describe("what a registry says", () => {
  let [here, there] = [] as unknown as [TestNode, TestNode];
  let registry: TestRegistry;
  let manifest: Manifest;
  let reference: string;

  beforeAll(async () => {
    [here, there, registry] = await Promise.all([startTestNode(), startTestNode(), startTestRegistry()]);
    await storeMadeUp(here.home, "sent");
    reference = `${registry.address}/${repository}:1`;
  });
  afterAll(async () => {
    await here?.[Symbol.asyncDispose]();
    await there?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await push(here.client, { snapshot: "sent", target: reference });
    const manifests = [...registry.manifests.values()].map(({ bytes }) => JSON.parse(bytes.toString()));
    const found = manifests.find(({ artifactType }) => artifactType?.includes("snapshot"));
    manifest = structuredClone(found);
  });

  /** What is written into the registry is found there, whatever it is. */
  const tagged = (value: unknown, mediaType = "application/vnd.oci.image.manifest.v1+json"): void => {
    const bytes = Buffer.from(JSON.stringify(value));
    registry.manifests.set(`${repository}:1`, { mediaType, bytes });
  };
  const stored = (text: string): Descriptor => {
    const { digest, size } = registry.put(repository, Buffer.from(text));
    return { ...manifest.config, digest, size };
  };
  const layer = (kind: string): Descriptor => {
    const found = manifest.layers.find(({ mediaType }) => mediaType.includes(`.${kind}.`));
    if (found === undefined) throw new Error(`there is no ${kind}`);
    return found;
  };
  const annotate = (kind: string, name: string, value: number): void => {
    layer(kind).annotations[name] = String(value);
  };
  const configText = () => registry.blobs.get(manifest.config.digest as `sha256:${string}`)?.toString() ?? "";

  const expectRefused = async (code: string, why?: RegExp): Promise<void> => {
    const blobReads = () => registry.asked("GET /blobs/").length;
    const before = blobReads();
    const refusal = await pull(there.client, { reference }).catch((error) => error);
    expect(refusal).toMatchObject({ code, reason: expect.stringMatching(why ?? /./) });
    // No more than the config.
    expect(blobReads() - before).toBeLessThanOrEqual(1);
    expect((await there.client.listSnapshots({})).snapshots).toEqual([]);
    for (const place of ["tmp", "blobs", "partial"]) {
      expect(await readdir(path.join(there.home, "store", place))).toEqual([]);
    }
  };

  it.each<[string, () => unknown, RegExp]>([
    [
      "a blob of petabytes",
      () => Object.assign(layer("memory"), { size: 2 ** 50 }),
      /claims 1125899906842624 bytes/,
    ],
    ["a config of gigabytes", () => Object.assign(manifest.config, { size: 2 ** 32 }), /config/],
    [
      "thousands of layers",
      () => Object.assign(manifest, { layers: Array(5000).fill(layer("memory")) }),
      /5000 layers|bytes/,
    ],
    [
      "a file of petabytes when it is decompressed",
      () => annotate("vmstate", "ai.sporelet.size", 2 ** 50),
      /at most/,
    ],
    ["an index of gigabytes", () => annotate("memory", "ai.sporelet.index.size", 2 ** 32), /at most/],
    [
      "a digest that is a path",
      () => Object.assign(layer("memory"), { digest: "sha256:../../../etc/passwd" }),
      /digest/,
    ],
  ])("is refused before anything is fetched when it is %s", async (_, change, why) => {
    change();
    tagged(manifest);
    await expectRefused("corrupt", why);
  });

  it("is refused before anything is fetched when it cannot fit", async () => {
    layer("memory").size = 2 ** 41;
    tagged(manifest);
    await expectRefused("resource_exhausted", /it needs \d+ MiB/);
  });

  it.each<[string, (config: Config) => unknown]>([
    ["is no JSON", () => undefined],
    ["is for petabytes of memory", (config) => ({ ...config, files: huge(config) })],
    ["names files outside", (config) => ({ ...config, files: { ...config.files, "../../x": {} } })],
  ])("is refused when its config %s", async (_, change) => {
    const config = change(JSON.parse(configText()));
    manifest.config = stored(config === undefined ? "{{" : JSON.stringify(config));
    tagged(manifest);
    const refusal = await pull(there.client, { reference }).catch((error) => error);
    expect(["corrupt", "resource_exhausted"]).toContain(refusal.code);
    expect((await there.client.listSnapshots({})).snapshots).toEqual([]);
    expect(await readdir(path.join(there.home, "store/tmp"))).toEqual([]);
    expect(await readdir(there.home)).not.toContain("x");
    await there.client.collectCache({});
  });
  const huge = ({ files }: Config) => ({
    ...files,
    memory: { ...files.memory, sizeBytes: 2 ** 52, usedBytes: 2 ** 52 },
  });

  it("is refused before anything is fetched when its layers are not those of its config", async () => {
    const vmstate = layer("vmstate");
    annotate("vmstate", "ai.sporelet.size", 1000);
    tagged(manifest);
    await expectRefused("corrupt", /vmstate has 1000 bytes, and its config says 20000/);
    annotate("vmstate", "ai.sporelet.size", 20_000);
    const kernel = layer("kernel");
    manifest.layers = manifest.layers.filter((each) => each !== kernel);
    tagged(manifest);
    await expectRefused("corrupt", /kernel is in its config and not in its layers/);
    const mediaType = vmstate.mediaType.replace("vmstate", "workingset");
    manifest.layers.push(kernel, { ...vmstate, mediaType });
    tagged(manifest);
    await expectRefused("corrupt", /workingset is in its layers and not in its config/);
  });

  it("is refused when a page image is none, or one of another size", async () => {
    const bytes = Buffer.alloc(mebibyte, 1);
    const { digest } = registry.put(repository, bytes);
    Object.assign(layer("memory"), { digest, size: bytes.length });
    layer("memory").annotations["ai.sporelet.index.offset"] = "0";
    tagged(manifest);
    await expect(pull(there.client, { reference })).rejects.toMatchObject({ code: "corrupt" });
    Object.assign(layer("memory"), layer("disk"), { mediaType: layer("memory").mediaType });
    tagged(manifest);
    await expect(pull(there.client, { reference })).rejects.toMatchObject({
      ...{ code: "corrupt", reason: "its memory has 16777216 bytes, and its config says 33554432" },
    });
    expect((await there.client.listSnapshots({})).snapshots).toEqual([]);
    expect(await readdir(path.join(there.home, "store/tmp"))).toEqual([]);
    await there.client.collectCache({});
  });

  it("is refused when it is an ordinary image", async () => {
    const imageConfig = "application/vnd.oci.image.config.v1+json";
    const { artifactType: _, ...image } = manifest;
    tagged({ ...image, config: { ...manifest.config, mediaType: imageConfig } });
    await expectRefused("incompatible", /not a snapshot/);
    const docker = "application/vnd.docker.distribution.manifest.v2+json";
    tagged({ ...image, mediaType: docker }, docker);
    await expectRefused("incompatible", /not a snapshot|docker/);
  });

  it.each(["../layer1.mem", "/etc/layer1.mem", "a/layer1.mem", "layer1.mem\0"])(
    "is refused when a file is called %j",
    async (title) => {
      const layers = ["layer1.vmstate", "layer1.config", title].map((name) => ({
        ...stored(`the content of ${name}`),
        mediaType: "application/octet-stream",
        annotations: { "org.opencontainers.image.title": name },
      }));
      tagged({ ...manifest, artifactType: "application/vnd.firecracker.layer.v1", layers });
      await expectRefused("corrupt", /not a plain file name/);
    },
  );

  it("is refused when files of ORAS are none of a snapshot, or not those of its config", async () => {
    const artifactType = "application/vnd.firecracker.layer.v1";
    const file = (title: string, text: string) => ({
      ...stored(text),
      mediaType: "application/octet-stream",
      annotations: { "org.opencontainers.image.title": title },
    });
    tagged({ ...manifest, artifactType, layers: [file("layer1.mem", "memory")] });
    await expectRefused("incompatible", /lacks layer1.vmstate, layer1.config/);
    const layers = [
      file("layer1.mem", "memory"),
      file("layer1.vmstate", "vmstate"),
      file("layer1.config", configText()),
    ];
    tagged({ ...manifest, artifactType, layers });
    await expect(pull(there.client, { reference })).rejects.toMatchObject({ code: "corrupt" });
    expect((await there.client.listSnapshots({})).snapshots).toEqual([]);
    expect(await readdir(path.join(there.home, "store/tmp"))).toEqual([]);
    await there.client.collectCache({});
  });

  it("is refused when its index names another snapshot than its manifest", async () => {
    const found = registry.manifests.get(`${repository}:1`)?.bytes.toString() ?? "";
    const other = `sha256:${createHash("sha256").update("another").digest("hex")}`;
    const index = found.replaceAll(manifest.config.digest, other);
    expect(index).not.toBe(found);
    tagged(JSON.parse(index), "application/vnd.oci.image.index.v1+json");
    await expectRefused("corrupt", /another snapshot/);
  });
});

describe("a snapshot with a secret in it", () => {
  // Put together here, so that no text of this file is itself a find.
  const key = `-----BEGIN ${"OPENSSH "}PRIVATE KEY-----\n${"aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA".repeat(4)}\n`;
  let node: TestNode;
  let registry: TestRegistry;

  beforeAll(async () => {
    [node, registry] = await Promise.all([startTestNode(), startTestRegistry()]);
    await storeMadeUp(node.home, "memory", { text: key });
    await storeMadeUp(node.home, "disk", { disk: Buffer.from(key) });
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
  });

  it.each(["memory", "disk"])("in its %s is not published unless that is wanted", async (snapshot) => {
    const request = { snapshot, target: `${registry.address}/secrets/${snapshot}:1` };
    const refusal = await push(node.client, request).catch((error) => error);
    expect(refusal).toMatchObject({
      code: "failed_precondition",
      hint: expect.stringContaining("--allow-secrets"),
    });
    expect(refusal.reason).toContain(`a private key in its ${snapshot}`);
    expect(JSON.stringify(refusal)).not.toContain(key.slice(40, 60));
    expect([...registry.blobs, ...registry.manifests]).toEqual([]);
    await push(node.client, { ...request, allowSecrets: true });
    expect([...registry.manifests.keys()]).toContain(`secrets/${snapshot}:1`);
    registry.blobs.clear();
    registry.manifests.clear();
  });
});
