import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import type { node as api } from "@sporelet/api";
import { runProcess } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { createRegistryClient, parseArtifact } from "@sporelet/oci";
import {
  type DockerRegistry,
  orasProgram,
  startDockerRegistry,
  whyNoDockerRegistry,
  whyNoOras,
} from "@sporelet/oci/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { storeForeign } from "../testing/foreign.ts";
import { buildBase, run, shell, startTestNode, type TestNode, traces } from "../testing/node.ts";
import { exportTo, pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;
const reason = whyNoDockerRegistry();

it("sends real guests through a real registry", (ctx) => {
  if (reason !== undefined) ctx.skip(reason);
});

describe.runIf(reason === undefined)("two nodes and a registry", () => {
  let registry: DockerRegistry;
  let [here, there] = [] as unknown as [TestNode, TestNode];
  /** Layer 0, and what was frozen from a clone of it, and from a clone of that. */
  let chain: api.Snapshot[];

  beforeAll(async () => {
    registry = await startDockerRegistry();
    [here, there] = await Promise.all([startTestNode(), startTestNode()]);
    chain = [await buildBase(here.client)];
    for (const [from, to] of [
      ["base", "child"],
      ["child", "grandchild"],
    ]) {
      await run(here.client, { snapshot: from as string, name: "one" });
      const write = `dd if=/dev/urandom of=/${to} bs=1M count=1 2>/dev/null && md5sum /${to} > /${to}.sum`;
      expect(await shell(here.client, "one", write)).toMatchObject({ code: 0 });
      chain.push(await here.client.createSnapshot({ machine: "one", tag: to as string, diff: true }));
      await here.client.removeMachine({ machine: "one", force: true });
    }
  });
  afterAll(async () => {
    await here?.[Symbol.asyncDispose]();
    await there?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
  });

  const named = (name: string) => `${registry.address}/team/${name}`;

  /** Runs a clone and has it look at what its ancestors wrote. */
  const expectToRun = async ({ client }: TestNode, snapshot: string, files: string[]): Promise<void> => {
    const [machine] = await run(client, { snapshot });
    try {
      const { code, stdout } = await shell(
        client,
        machine?.id ?? "",
        `cd /; cat /proc/uptime; md5sum -c *.sum`,
      );
      for (const file of files) expect(stdout).toContain(`${file}: OK`);
      if (files.length > 0) expect(code).toBe(0);
    } finally {
      await client.removeMachine({ machine: machine?.id ?? "", force: true });
    }
  };

  const removeAll = async ({ client, home }: TestNode): Promise<void> => {
    for (const { digest } of (await client.listSnapshots({})).snapshots) {
      await client.removeSnapshot({ snapshot: digest, force: true });
    }
    await client.collectCache({});
    for (const place of ["blobs", "partial", "publications"]) {
      expect(await readdir(path.join(home, "store", place))).toEqual([]);
    }
  };

  it("have the same snapshot after a push and a pull, and it runs on both", async () => {
    const { pushed } = await push(here.client, { snapshot: "base", target: named("app:base") });
    expect(pushed).toMatchObject({ reference: named("app:base"), snapshot: chain[0]?.digest });
    const { snapshot } = await pull(there.client, { reference: named("app:base") });
    expect(snapshot).toMatchObject({ digest: chain[0]?.digest, tags: [named("app:base")] });
    expect(await there.client.verifySnapshot({ snapshot: named("app:base") })).toMatchObject({
      verified: true,
    });
    await expectToRun(there, named("app:base"), []);
    expect(await traces(there.home)).toEqual([]);
  });

  it("send nothing that the registry has", async () => {
    const { pushed } = await push(here.client, { snapshot: "base", target: named("app:base") });
    // The manifests alone.
    expect(Number(pushed.sentBytes)).toBeLessThan(16 * 1024);
    expect(Number(pushed.reusedBytes)).toBeGreaterThan(mebibyte);
  });

  it("send and fetch of a child no more than what it changed", async () => {
    const { pushed } = await push(here.client, { snapshot: "child", target: named("app:child") });
    // A megabyte was written, twice: as it came from the generator it is in no cache.
    expect(Number(pushed.sentBytes)).toBeGreaterThan(mebibyte);
    expect(Number(pushed.sentBytes)).toBeLessThan(8 * mebibyte);
    expect(Number(pushed.reusedBytes)).toBeGreaterThan(mebibyte);
    const { snapshot, items } = await pull(there.client, { reference: named("app:child"), tag: "mine" });
    expect(snapshot).toMatchObject({ digest: chain[1]?.digest, tags: ["mine:latest"] });
    const fetched = items.filter(({ state, id }) => state === "done" && id.startsWith("down"));
    expect(fetched.map(({ title }) => title)).toContain("memory, step 2 of 2");
    expect(fetched.map(({ title }) => title)).not.toContain("memory, step 1 of 2");
    await expectToRun(there, "mine", ["child"]);
  });

  it("fetch a chain of three where nothing is, and it runs", async () => {
    await push(here.client, { snapshot: "grandchild", target: named("app:grandchild") });
    await removeAll(there);
    const { snapshot } = await pull(there.client, { reference: named("app:grandchild") });
    expect(snapshot.digest).toBe(chain[2]?.digest);
    expect((await there.client.listSnapshots({})).snapshots).toHaveLength(1);
    expect(await there.client.verifySnapshot({ snapshot: snapshot.digest })).toMatchObject({
      verified: true,
    });
    await expectToRun(there, named("app:grandchild"), ["child", "grandchild"]);
  });

  it("mount what another repository of the registry has", async () => {
    const { pushed, items } = await push(here.client, { snapshot: "child", target: named("other:1") });
    expect(Number(pushed.sentBytes)).toBeLessThan(16 * 1024);
    expect(items.filter(({ state }) => state === "mounted").map(({ title }) => title)).toContain(
      "memory, step 1 of 2",
    );
    // Also what only its parent is known to have been sent with.
    await run(here.client, { snapshot: "base", name: "two" });
    await here.client.createSnapshot({ machine: "two", tag: "sibling", diff: true });
    await here.client.removeMachine({ machine: "two", force: true });
    const sibling = await push(here.client, { snapshot: "sibling", target: named("siblings:1") });
    expect(Number(sibling.pushed.sentBytes)).toBeLessThan(8 * mebibyte);
    expect(Number(sibling.pushed.reusedBytes)).toBeGreaterThan(mebibyte);
    await here.client.removeSnapshot({ snapshot: "sibling" });
  });

  it.each([
    "has the blobs that it fetched",
    "has lost them and fetches them again",
    "has lost them, as has their origin",
  ])("pass a snapshot on to another registry when the one %s", async (situation) => {
    await using another = await startDockerRegistry();
    await using origin = await startDockerRegistry();
    const from = `${origin.address}/from/app:1`;
    const { pushed } = await push(here.client, { snapshot: "grandchild", target: from });
    await removeAll(there);
    await pull(there.client, { reference: from });
    if (situation !== "has the blobs that it fetched") await there.client.collectCache({});
    if (situation === "has lost them, as has their origin") await origin.kill();
    const target = `${another.address}/to/app:1`;
    const passed = await push(there.client, { snapshot: from, target });
    expect(passed.pushed.snapshot).toBe(pushed.snapshot);
    await removeAll(there);
    const { snapshot } = await pull(there.client, { reference: target });
    expect(snapshot.digest).toBe(pushed.snapshot);
    await expectToRun(there, target, ["child", "grandchild"]);
  });

  it("add to what a tag names for other hosts when they are told to, and replace it otherwise", async () => {
    const target = named("variants:1");
    const vmm = { version: "1.0 of another kind" };
    const foreign = await storeForeign(here.home, "base", "foreign", { vmm });
    const snapshotsOf = async () => {
      await using client = createRegistryClient();
      const { bytes } = await client.repository(registry.address, "team/variants").manifest("1");
      const artifact = parseArtifact(bytes);
      return artifact.kind === "index" ? artifact.variants.map(({ snapshot }) => snapshot) : [];
    };
    await push(here.client, { snapshot: "foreign", target });
    await push(here.client, { snapshot: "base", target, addVariant: true });
    expect(await snapshotsOf()).toEqual([chain[0]?.digest, foreign]);
    // One variant for each kind of host.
    await push(here.client, { snapshot: "child", target, addVariant: true });
    expect(await snapshotsOf()).toEqual([chain[1]?.digest, foreign]);
    const { snapshot } = await pull(there.client, { reference: target });
    expect(snapshot.digest).toBe(chain[1]?.digest);
    await push(here.client, { snapshot: "base", target });
    expect(await snapshotsOf()).toEqual([chain[0]?.digest]);
    await here.client.removeSnapshot({ snapshot: "foreign" });
  });

  it("replace something else that a tag names, but add nothing to it", async () => {
    const target = named("else:1");
    await push(here.client, { snapshot: "base", target });
    await using client = createRegistryClient();
    const repository = client.repository(registry.address, "team/else");
    const { bytes } = await repository.manifest("1");
    const artifact = parseArtifact(bytes);
    const launcher = artifact.kind === "index" ? artifact.variants[0]?.launcher : undefined;
    const image = await repository.manifest(launcher?.digest ?? "");
    await repository.pushManifest(image.bytes, image.descriptor.mediaType, "1");
    await expect(push(here.client, { snapshot: "base", target, addVariant: true })).rejects.toMatchObject({
      hint: expect.any(String),
    });
    await expect(pull(there.client, { reference: target })).rejects.toMatchObject({ code: "incompatible" });
    await push(here.client, { snapshot: "base", target });
    expect((await pull(there.client, { reference: target })).snapshot.digest).toBe(chain[0]?.digest);
  });

  describe("with files of ORAS between them", () => {
    const files = (directory: string) => readdir(directory).then((names) => names.sort());
    const oras = async (directory: string, tag: string, names: string[]) => {
      const type = "application/vnd.firecracker.layer.v1";
      const argv = [orasProgram, "push", "--plain-http", "--artifact-type", type, named(tag), ...names];
      await runProcess(argv, { operation: "push with oras", cwd: directory });
    };

    it("run what oras pushed of an export, with and without kernel and initramfs", async (ctx) => {
      const whyNot = whyNoOras();
      if (whyNot !== undefined) return ctx.skip(whyNot);
      await using directory = await temporaryDirectory();
      const request = { snapshot: "grandchild", directory: path.join(directory.path, "out") };
      const exported = await exportTo(here.client, request);
      expect(exported.digest).toBe(chain[2]?.digest);
      const names = await files(request.directory);
      expect(names).toEqual(expect.arrayContaining(["layer1.config", "layer1.mem", "layer1.vmstate"]));
      await oras(request.directory, "plain:1", names);
      await removeAll(there);
      const { snapshot } = await pull(there.client, { reference: named("plain:1") });
      expect(snapshot.digest).toBe(chain[2]?.digest);
      expect(await there.client.verifySnapshot({ snapshot: snapshot.digest })).toMatchObject({
        verified: true,
      });
      await expectToRun(there, named("plain:1"), ["child", "grandchild"]);
      // Zeros that travelled as such are holes again.
      const { size, blocks } = await stat(path.join(snapshot.directory, "memory"));
      expect(blocks * 512).toBeLessThan(size / 2);
      expect(await readdir(path.join(there.home, "store/blobs"))).toEqual([]);

      await removeAll(there);
      const config = JSON.parse(await readFile(path.join(request.directory, "layer1.config"), "utf8"));
      for (const file of ["kernel", "initramfs"]) delete config.files[file];
      await writeFile(path.join(request.directory, "layer1.config"), JSON.stringify(config));
      const rest = names.filter((name) => !/kernel|initramfs/.test(name));
      await oras(request.directory, "plain:2", rest);
      await pull(there.client, { reference: named("plain:2") });
      await expectToRun(there, named("plain:2"), ["child", "grandchild"]);
      await expect(run(there.client, { snapshot: named("plain:3") })).rejects.toMatchObject({
        code: "not_found",
      });
    });

    it("do not overwrite files unless they are told to", async () => {
      await using directory = await temporaryDirectory();
      const request = { snapshot: "base", directory: directory.path };
      await writeFile(path.join(directory.path, "layer1.vmstate"), "of somebody else");
      await expect(exportTo(here.client, request)).rejects.toMatchObject({ code: "already_exists" });
      expect(await files(directory.path)).toEqual(["layer1.vmstate"]);
      await exportTo(here.client, { ...request, force: true });
      const all = await files(directory.path);
      expect(all).toContain("layer1.config");
      expect(all.filter((name) => name.startsWith("."))).toEqual([]);
      await rm(directory.path, { recursive: true });
    });
  });
});
