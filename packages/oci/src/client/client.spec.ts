import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { sha256 } from "../digest.ts";
import { canonicalJson } from "../json.ts";
import { mediaTypes } from "../media-types.ts";
import {
  blobOf,
  collect,
  sourceOf,
  startDockerRegistry,
  startTestRegistry,
  whyNoDockerRegistry,
} from "../testing/index.ts";
import { createRegistryClient, type RegistryClient } from "./client.ts";

type Started = AsyncDisposable & { address: string };

const registries: { kind: string; whyNot?: string | undefined; start(): Promise<Started> }[] = [
  { kind: "docker-registry", whyNot: whyNoDockerRegistry(), start: () => startDockerRegistry() },
  { kind: "the tests' registry", start: () => startTestRegistry() },
  { kind: "one with relative Locations", start: () => startTestRegistry({ relativeLocations: true }) },
];

describe.each(registries)("a client of $kind", ({ whyNot, start }) => {
  const using = (what: string, test: (client: RegistryClient, address: string) => Promise<void>) =>
    it(what, async (ctx) => {
      if (whyNot !== undefined) return ctx.skip(whyNot);
      await using registry = await start();
      await using client = createRegistryClient({ chunkBytes: 100_000, singlePutBytes: 1000 });
      await test(client, registry.address);
    });

  using("sends blobs of all sizes and reads them and their parts back", async (client, address) => {
    const repository = client.repository(address, "team/hello");
    for (const size of [0, 1, 1000, 1001, 100_000, 250_001]) {
      const bytes = randomBytes(size);
      expect(await repository.hasBlob(sha256(bytes))).toBe(false);
      expect(await repository.pushBlob(sourceOf(bytes))).toBe("pushed");
      expect(await repository.pushBlob(sourceOf(bytes))).toBe("exists");
      expect(blobOf(await repository.readBlob(blobOf(bytes)))).toEqual(blobOf(bytes));
      expect(blobOf(await collect(repository.streamBlob(blobOf(bytes))))).toEqual(blobOf(bytes));
      const offset = size >> 1;
      const part = repository.streamBlob(blobOf(bytes), { offset, length: size >> 2 });
      expect(blobOf(await collect(part))).toEqual(blobOf(bytes.subarray(offset, offset + (size >> 2))));
    }
    expect(repository.servesRanges).toBe(true);
  });

  using("sends manifests, by tag and digest, and finds them by both", async (client, address) => {
    const repository = client.repository(address, "team/hello");
    const config = Buffer.from("{}");
    await repository.pushBlob(sourceOf(config));
    const manifest = canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: { ...blobOf(config), mediaType: mediaTypes.empty },
      layers: [{ ...blobOf(config), mediaType: mediaTypes.empty }],
    });
    const pushed = await repository.pushManifest(manifest, mediaTypes.manifest, "v1");
    expect(pushed).toEqual({
      mediaType: mediaTypes.manifest,
      digest: sha256(manifest),
      size: manifest.length,
    });
    for (const name of ["v1", pushed.digest]) {
      expect(await repository.resolve(name)).toEqual(pushed);
      expect(await repository.manifest(name)).toEqual({ descriptor: pushed, bytes: manifest });
    }
  });

  using("keeps track of what refers to a manifest", async (client, address) => {
    const repository = client.repository(address, "team/hello");
    const index = (rest: object) =>
      canonicalJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [], ...rest });
    const subject = await repository.pushManifest(index({}), mediaTypes.index, "v1");
    expect(await repository.referrers(subject.digest)).toEqual([]);
    const artifactType = "application/vnd.example.signature.v1";
    for (const by of ["one", "two", "one"]) {
      const bytes = index({ subject, artifactType, annotations: { by } });
      await repository.pushManifest(bytes, mediaTypes.index, sha256(bytes));
    }
    const found = await repository.referrers(subject.digest);
    expect(found.map(({ artifactType, annotations }) => ({ artifactType, ...annotations }))).toEqual([
      { artifactType, by: "one" },
      { artifactType, by: "two" },
    ]);
  });

  using("says what is missing", async (client, address) => {
    const missing = { code: "not_found", subject: `${address}/nothing:v1` };
    const repository = client.repository(address, "nothing");
    await expect(repository.resolve("v1")).rejects.toMatchObject(missing);
    await expect(repository.manifest("v1")).rejects.toMatchObject(missing);
    await expect(repository.readBlob(blobOf(randomBytes(3)))).rejects.toMatchObject({
      code: "not_found",
    });
  });

  using("mounts blobs from another repository", async (client, address) => {
    const bytes = randomBytes(5000);
    await client.repository(address, "parent").pushBlob(sourceOf(bytes));
    const child = client.repository(address, "child");
    expect(await child.mountBlob(sha256(bytes), "parent")).toBe(true);
    expect(blobOf(await child.readBlob(blobOf(bytes)))).toEqual(blobOf(bytes));
    const other = randomBytes(200_000);
    expect(await child.mountBlob(sha256(other), "parent")).toBe(false);
    expect(await child.pushBlob(sourceOf(other))).toBe("pushed");
    expect(blobOf(await child.readBlob(blobOf(other)))).toEqual(blobOf(other));
  });
});
