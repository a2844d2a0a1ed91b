import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { sha256 } from "../digest.ts";
import { canonicalJson } from "../json.ts";
import { mediaTypes } from "../media-types.ts";
import { startDockerRegistry, startTestRegistry, whyNoDockerRegistry } from "../testing/index.ts";
import { createRegistryClient, type RegistryClient } from "./client.ts";
import { once } from "./manifests.ts";

const descriptor = (bytes: Buffer) => ({
  mediaType: "application/octet-stream",
  digest: sha256(bytes),
  size: bytes.length,
});

/** A blob as something to send. */
const source = (bytes: Buffer) => ({
  digest: sha256(bytes),
  size: bytes.length,
  read: (offset: number) => once(bytes.subarray(offset)),
});

async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

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
      expect(await repository.pushBlob(source(bytes))).toBe("pushed");
      expect(await repository.pushBlob(source(bytes))).toBe("exists");
      expect(await repository.readBlob(descriptor(bytes))).toEqual(bytes);
      expect(await collect(repository.streamBlob(descriptor(bytes)))).toEqual(bytes);
      const offset = size >> 1;
      const part = repository.streamBlob(descriptor(bytes), { offset, length: size >> 2 });
      expect(await collect(part)).toEqual(bytes.subarray(offset, offset + (size >> 2)));
    }
    expect(repository.servesRanges).toBe(true);
  });

  using("sends manifests, by tag and digest, and finds them by both", async (client, address) => {
    const repository = client.repository(address, "team/hello");
    const config = Buffer.from("{}");
    await repository.pushBlob(source(config));
    const manifest = canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: { ...descriptor(config), mediaType: mediaTypes.empty },
      layers: [{ ...descriptor(config), mediaType: mediaTypes.empty }],
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

  using("says what is missing", async (client, address) => {
    const missing = { code: "not_found", subject: `${address}/nothing:v1` };
    const repository = client.repository(address, "nothing");
    await expect(repository.resolve("v1")).rejects.toMatchObject(missing);
    await expect(repository.manifest("v1")).rejects.toMatchObject(missing);
    await expect(repository.readBlob(descriptor(randomBytes(3)))).rejects.toMatchObject({
      code: "not_found",
    });
  });

  using("mounts blobs from another repository", async (client, address) => {
    const bytes = randomBytes(5000);
    await client.repository(address, "parent").pushBlob(source(bytes));
    const child = client.repository(address, "child");
    expect(await child.mountBlob(sha256(bytes), "parent")).toBe(true);
    expect(await child.readBlob(descriptor(bytes))).toEqual(bytes);
    const other = randomBytes(200_000);
    expect(await child.mountBlob(sha256(other), "parent")).toBe(false);
    expect(await child.pushBlob(source(other))).toBe("pushed");
    expect(await child.readBlob(descriptor(other))).toEqual(other);
  });
});
