import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findProgram, runProcess } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { createRegistryClient, type Repository } from "../client/client.ts";
import { mediaTypes } from "../media-types.ts";
import { examplePublication } from "../testing/example.ts";
import { imageValidator } from "../testing/image-schemas.ts";
import {
  orasProgram,
  sourceOf,
  startDockerRegistry,
  whyNoDockerRegistry,
  whyNoImageSchemas,
  whyNoOras,
} from "../testing/index.ts";
import { parseArtifact } from "./parse.ts";

const json = (bytes: Buffer) => JSON.parse(bytes.toString()) as unknown;

describe("the image specification's schemas", () => {
  it("hold for all that is published", (ctx) => {
    const reason = whyNoImageSchemas();
    if (reason !== undefined) return ctx.skip(reason);
    const problems = imageValidator();
    const { manifest, launcher, index } = examplePublication();
    expect(problems("image-manifest-schema.json", json(manifest.bytes))).toEqual([]);
    expect(problems("image-manifest-schema.json", json(launcher.manifest.bytes))).toEqual([]);
    expect(problems("config-schema.json", json(launcher.config.bytes))).toEqual([]);
    expect(problems("image-index-schema.json", json(index.bytes))).toEqual([]);
  });

  it("are really applied, across their files", (ctx) => {
    const reason = whyNoImageSchemas();
    if (reason !== undefined) return ctx.skip(reason);
    const problems = imageValidator();
    const { manifest } = examplePublication();
    const broken = json(manifest.bytes) as { config: { digest: string }; layers: { mediaType: string }[] };
    broken.config.digest = "nonsense";
    if (broken.layers[0]) broken.layers[0].mediaType = "no type";
    expect(problems("image-manifest-schema.json", broken)).toEqual([
      expect.stringContaining("/config/digest"),
      expect.stringContaining("/layers/0/mediaType"),
    ]);
  });
});

/** Pushes the example as `v1`. */
async function publish(repository: Repository): Promise<ReturnType<typeof examplePublication>> {
  const example = examplePublication();
  for (const bytes of example.blobs) await repository.pushBlob(sourceOf(bytes));
  const { manifest, launcher, index } = example;
  for (const { bytes, descriptor } of [manifest, launcher.manifest]) {
    await repository.pushManifest(bytes, descriptor.mediaType, descriptor.digest);
  }
  await repository.pushManifest(index.bytes, mediaTypes.index, "v1");
  return example;
}

async function registry() {
  const stack = new AsyncDisposableStack();
  const { address } = stack.use(await startDockerRegistry());
  const directory = stack.use(await temporaryDirectory()).path;
  const client = stack.use(createRegistryClient());
  const repository = client.repository(address, "team/hello");
  const run = (...argv: string[]) =>
    runProcess(argv, {
      operation: "test",
      cwd: directory,
      // Neither this person's logins nor a cache.
      env: { ...process.env, HOME: directory, DOCKER_CONFIG: directory },
    });
  const oras = (...args: string[]) => run(orasProgram, ...args);
  return { address, directory, repository, run, oras, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

describe("the real oras", () => {
  const reason = whyNoOras() ?? whyNoDockerRegistry();

  it("pushes files that are understood", async (ctx) => {
    if (reason !== undefined) return ctx.skip(reason);
    await using test = await registry();
    const files = { "layer1.mem": "memory", "layer1.vmstate": "state", "layer1.config": "{}" };
    for (const [name, text] of Object.entries(files)) await writeFile(join(test.directory, name), text);
    await truncate(join(test.directory, "layer1.mem"), 5_000_000);
    const type = "application/vnd.firecracker.layer.v1";
    const names = Object.keys(files);
    await test.oras(
      "push",
      "--plain-http",
      "--artifact-type",
      type,
      `${test.address}/team/hello:plain`,
      ...names,
    );
    const { bytes } = await test.repository.manifest("plain");
    const artifact = parseArtifact(bytes);
    if (artifact.kind !== "plain") throw new Error(`it is taken for a ${artifact.kind}`);
    expect([...artifact.files.keys()]).toEqual(names);
    const read = async (name: string) => {
      const file = artifact.files.get(name);
      return file && test.repository.readBlob(file);
    };
    expect(String(await read("layer1.vmstate"))).toBe("state");
    expect((await read("layer1.mem"))?.length).toBe(5_000_000);
  });

  it("copies all that is published to another repository, unchanged", async (ctx) => {
    if (reason !== undefined) return ctx.skip(reason);
    await using test = await registry();
    const { index } = await publish(test.repository);
    const [from, to] = [`${test.address}/team/hello:v1`, `${test.address}/copies/hello:v1`];
    await test.oras("cp", "--from-plain-http", "--to-plain-http", from, to);
    const { stdout } = await test.oras("resolve", "--plain-http", to);
    expect(stdout.trim()).toBe(index.descriptor.digest);
  });

  it("finds and pulls what is published", async (ctx) => {
    if (reason !== undefined) return ctx.skip(reason);
    await using test = await registry();
    const { manifest, index } = await publish(test.repository);
    const name = `${test.address}/team/hello`;
    const resolved = await test.oras("resolve", "--plain-http", `${name}:v1`);
    expect(resolved.stdout.trim()).toBe(index.descriptor.digest);
    await test.oras("pull", "--plain-http", `${name}@${manifest.descriptor.digest}`);
    expect(await readFile(join(test.directory, "memory.1.zst"), "utf8")).toBe("memory of layer 1");
    expect(await readFile(join(test.directory, "vmstate.zst"), "utf8")).toBe("vmstate, compressed");
  });
});

describe("skopeo", () => {
  it("takes the launcher for the image of its platform", async (ctx) => {
    const reason =
      whyNoDockerRegistry() ?? ((await findProgram("skopeo")) ? undefined : "skopeo is not installed");
    if (reason !== undefined) return ctx.skip(reason);
    await using test = await registry();
    const { launcher } = await publish(test.repository);
    const skopeo = ["skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64"];
    const source = `docker://${test.address}/team/hello:v1`;
    await test.run(...skopeo, "copy", "--src-tls-verify=false", source, "oci:one:v1");
    const inspected = await test.run(...skopeo, "inspect", "--config", "oci:one:v1");
    expect(JSON.parse(inspected.stdout)).toMatchObject(json(launcher.config.bytes) as object);
  });
});
