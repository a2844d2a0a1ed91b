import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { createRegistryClient, parseArtifact } from "@sporelet/oci";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import type { SnapshotFile, StoredSnapshot } from "@sporelet/store";
import { describe, expect, it } from "vitest";
import { openLocalNode } from "../lazy/testing/local-node.ts";
import { fetchPlain, plainNames } from "./plain.ts";
import { createReports } from "./reports.ts";
import { storeMadeUp } from "./testing/made-up.ts";

/** What `oras push` would make of an export. */
async function pushPlain(registry: TestRegistry, snapshot: StoredSnapshot) {
  const layers = [];
  const put = async (file: string, ending: string) => ({
    ...registry.put("hello", await readFile(file)),
    annotations: { "org.opencontainers.image.title": `layer1.${ending}` },
  });
  for (const [file, ending] of Object.entries(plainNames)) {
    const source = snapshot.files[file as SnapshotFile];
    if (source !== undefined) layers.push(await put(source, ending));
  }
  layers.push(await put(path.join(snapshot.directory, "config.json"), "config"));
  const manifest = {
    ...{ schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json" },
    artifactType: "application/vnd.firecracker.layer.v1",
    config: registry.put("hello", Buffer.from("{}"), "application/vnd.oci.empty.v1+json"),
    layers,
  };
  const artifact = parseArtifact(Buffer.from(JSON.stringify(manifest)));
  if (artifact.kind !== "plain") throw new Error(`it is taken for a ${artifact.kind}`);
  return artifact;
}

describe("a pull of what oras pushed", () => {
  it("removes the blobs that only it has used, and leaves those that another one has leased", async () => {
    await using registry = await startTestRegistry();
    await using client = createRegistryClient();
    await using local = await openLocalNode();
    const { node } = local;
    const made = await storeMadeUp(node.home, "sent", { ownBytes: 4096 });
    const artifact = await pushPlain(registry, made);
    await node.store.remove("sent");
    const kernel = artifact.files.get("layer1.kernel");
    if (kernel === undefined) throw new Error("no kernel");
    const fetch = () => {
      const repository = client.repository(registry.address, "hello");
      const signal = new AbortController().signal;
      return fetchPlain(
        node,
        repository,
        artifact,
        "hello",
        createReports(() => {}),
        signal,
      );
    };
    const blobs = () => readdir(path.join(node.store.root, "blobs"));
    {
      using _another = node.store.leaseBlobs([kernel.digest], "another pull");
      expect((await fetch()).digest).toBe(made.digest);
      expect(await blobs()).toEqual([kernel.digest.replace("sha256:", "")]);
    }
    await node.store.remove(made.digest);
    expect((await fetch()).digest).toBe(made.digest);
    expect(await blobs()).toEqual([]);
  });
});
