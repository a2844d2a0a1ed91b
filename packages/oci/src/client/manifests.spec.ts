import { describe, expect, it } from "vitest";
import { sha256 } from "../digest.ts";
import { canonicalJson } from "../json.ts";
import { mediaTypes } from "../media-types.ts";
import { type Fault, startTestRegistry } from "../testing/index.ts";
import { createRegistryClient } from "./client.ts";

const manifest = canonicalJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] });
const digest = sha256(manifest);
const lie = sha256(Buffer.from("something else"));

async function start(...faults: Fault[]) {
  const stack = new AsyncDisposableStack();
  const registry = stack.use(await startTestRegistry({ faults }));
  const client = stack.use(createRegistryClient({ retries: { firstDelayMs: 1 } }));
  const repository = client.repository(registry.address, "hello");
  for (const key of ["hello:v1", `hello@${digest}`]) {
    registry.manifests.set(key, { mediaType: mediaTypes.index, bytes: manifest });
  }
  return { registry, repository, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const descriptor = { mediaType: mediaTypes.index, digest, size: manifest.length };

describe("a manifest", () => {
  it.each<[string, Fault]>([
    ["its bytes are damaged", { damage: true }],
    ["the header claims another digest", { headers: { "docker-content-digest": lie } }],
  ])("is refused when %s", async (_, fault) => {
    await using test = await start({ on: "GET", ...fault });
    await expect(test.repository.manifest("v1")).rejects.toMatchObject({ code: "corrupt" });
    test.registry.faults.add({ on: "GET", ...fault });
    await expect(test.repository.manifest(digest)).rejects.toMatchObject({ code: "corrupt" });
  });

  it("is refused when another one is served under its digest", async () => {
    await using test = await start();
    const other = canonicalJson({ schemaVersion: 2, manifests: [], annotations: {} });
    test.registry.manifests.set(`hello@${digest}`, { mediaType: mediaTypes.index, bytes: other });
    await expect(test.repository.manifest(digest)).rejects.toThrow("the registry has another manifest there");
    await expect(test.repository.resolve(digest)).rejects.toThrow("the registry has another manifest there");
  });

  it("is refused when it is too large, whether or not its length is announced", async () => {
    await using test = await start();
    await expect(test.repository.manifest("v1", { maxBytes: 10 })).rejects.toThrow(
      "it has more than 10 bytes",
    );
    test.registry.faults.add({ on: "GET", appendBytes: 5_000_000 });
    await expect(test.repository.manifest("v1")).rejects.toThrow("it has more than 4194304 bytes");
  });

  it("is asked for again when it was cut short", async () => {
    await using test = await start({ on: "GET", dropAfterBytes: 10, times: 2 });
    expect(await test.repository.manifest("v1")).toEqual({ descriptor, bytes: manifest });
  });

  it("is read where HEAD tells too little", async () => {
    await using test = await start(
      { on: "HEAD", headers: { "docker-content-digest": "" } },
      { on: "HEAD", status: 405 },
    );
    expect(await test.repository.resolve("v1")).toEqual(descriptor);
    expect(await test.repository.resolve("v1")).toEqual(descriptor);
    expect(test.registry.asked("GET")).toHaveLength(2);
  });

  it("is known by its content where the registry forgets its type", async () => {
    await using test = await start({ on: "GET", headers: { "content-type": "application/json" } });
    expect((await test.repository.manifest("v1")).descriptor.mediaType).toBe(mediaTypes.index);
  });

  it.each(["../v1", "a/b", "", "v1?x", "sha256:12", "x".repeat(129)])(
    "is not asked for as %j",
    async (name) => {
      await using test = await start();
      await expect(test.repository.manifest(name)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(test.repository.resolve(name)).rejects.toMatchObject({ code: "invalid_argument" });
      expect(test.registry.requests).toHaveLength(0);
    },
  );
});

describe("pushing a manifest", () => {
  it("is tried again when the registry is busy", async () => {
    await using test = await start({ on: "PUT", status: 503, times: 2 });
    expect(await test.repository.pushManifest(manifest, mediaTypes.index, "v2")).toEqual(descriptor);
    expect(test.registry.manifests.get("hello:v2")?.bytes).toEqual(manifest);
  });

  it("fails when the registry stores something else", async () => {
    await using test = await start({ on: "PUT", headers: { "docker-content-digest": lie } });
    await expect(test.repository.pushManifest(manifest, mediaTypes.index, "v2")).rejects.toMatchObject({
      code: "corrupt",
    });
  });

  it("shows what the registry has against it", async () => {
    await using test = await start();
    const dangling = canonicalJson({ schemaVersion: 2, manifests: [{ digest: lie }] });
    await expect(test.repository.pushManifest(dangling, mediaTypes.index, "v2")).rejects.toMatchObject({
      code: "failed_precondition",
      reason: `${test.registry.address} answered 400: MANIFEST_BLOB_UNKNOWN: ${lie}`,
    });
  });
});
