import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { Descriptor } from "../descriptor.ts";
import { sha256 } from "../digest.ts";
import { canonicalJson } from "../json.ts";
import { annotationNames, artifactTypes, mediaTypes } from "../media-types.ts";
import { launcherImage } from "./launcher.ts";
import { pageImageLayer, wholeFileLayer } from "./layers.ts";
import { parseArtifact, parseArtifactIndex, parseSnapshotManifest } from "./parse.ts";
import { snapshotManifest } from "./snapshot.ts";
import { artifactIndex } from "./variants.ts";

const digestOf = (text: string) => sha256(Buffer.from(text));
const config = Buffer.from('{"formatVersion":2}');
const index = { digest: digestOf("index"), offset: 900, sizeBytes: 80 };
const memory = (layer: number) =>
  pageImageLayer({ file: "memory", layer, index, digest: digestOf(`memory ${layer}`), sizeBytes: 1000 });
const vmstate = wholeFileLayer({
  file: "vmstate",
  rawBytes: 5000,
  digest: digestOf("vmstate"),
  sizeBytes: 700,
});
const layers = [memory(0), memory(1), vmstate];
const withIndexOf = (layer: number, sizeBytes: number): Descriptor => ({
  ...memory(layer),
  size: 2 ** 30,
  annotations: { ...memory(layer).annotations, [annotationNames.indexSize]: String(sizeBytes) },
});

/** A published snapshot, as it is sent. */
function published() {
  const { manifest } = snapshotManifest({ config, layers });
  const launcher = launcherImage(manifest.descriptor, { architecture: "amd64" });
  const variant = {
    artifact: manifest.descriptor,
    launcher: launcher.manifest.descriptor,
    architecture: "amd64",
    snapshot: sha256(config),
    requirements: { "ai.sporelet.vmm": "qemu", "ai.sporelet.vmm.version": "7.2.22" },
  };
  return { manifest, launcher, variant, index: artifactIndex({ variants: [variant] }) };
}

/** A manifest with some members replaced. */
function changed(change: Record<string, unknown>): Buffer {
  const manifest = JSON.parse(snapshotManifest({ config, layers }).manifest.bytes.toString());
  return canonicalJson({ ...manifest, ...change });
}

describe("a published snapshot", () => {
  it("has the same bytes whenever and however often it is described", () => {
    const { manifest, launcher, index } = published();
    expect([manifest, launcher.layer, launcher.manifest, index].map((it) => it.descriptor.digest)).toEqual([
      "sha256:7fdf78769d918826f349c78c2c603178bc128627dcfad4873dfe034dc35562ac",
      "sha256:6b8d4a6d00b66120c998434c23355fc261cc3175759fd5b1bb74efeee87ed8cc",
      "sha256:12fadea1742dad8d6ba7079ae0aa9f3ecdccbda5582c83b81a181c381a517695",
      "sha256:294b435114908b0909b3aa7ccf350b8d7719fdb8cc70992f3b20ec68094cbfe0",
    ]);
  });

  it("is read back as it was described", () => {
    const { manifest, variant, index: top } = published();
    const { launcher, architecture: _, ...rest } = variant;
    expect(parseArtifactIndex(top.bytes).variants).toMatchObject([
      { ...rest, artifact: { digest: manifest.descriptor.digest }, launcher: { digest: launcher.digest } },
    ]);
    const artifact = parseSnapshotManifest(manifest.bytes);
    expect(artifact.config.digest).toBe(sha256(config));
    expect(artifact.layers).toEqual(layers);
    expect(artifact.memory).toMatchObject([
      { layer: 0, index },
      { layer: 1, index },
    ]);
    expect(artifact.files.vmstate?.rawBytes).toBe(5000);
  });

  it("lists the launcher for its platform, and the artifact for none", () => {
    const { manifests } = JSON.parse(published().index.bytes.toString()) as { manifests: Descriptor[] };
    expect(manifests.map(({ platform }) => platform)).toEqual([
      { os: "linux", architecture: "amd64" },
      { os: "unknown", architecture: "unknown" },
    ]);
  });
});

describe("a launcher", () => {
  it("is an image with a command, and a layer that names the artifact", () => {
    const { launcher, manifest } = published();
    const image = JSON.parse(launcher.config.bytes.toString());
    const files = gunzipSync(launcher.layer.bytes);
    expect(image.config.Entrypoint).toHaveLength(1);
    expect(image.rootfs.diff_ids).toEqual([sha256(files)]);
    expect(files.toString()).toContain(`"digest":"${manifest.descriptor.digest}"`);
    expect(launcher.layer.descriptor.annotations?.[annotationNames.snapshotterArtifact]).toBe(
      manifest.descriptor.digest,
    );
  });
});

describe("artifacts of others", () => {
  it.each([
    [
      "an ordinary image",
      { artifactType: undefined, config: { ...vmstate, mediaType: mediaTypes.imageConfig } },
    ],
    ["a later version", { artifactType: "application/vnd.sporelet.snapshot.v2" }],
    [
      "a later kind of layer",
      { layers: [...layers, { ...vmstate, mediaType: "application/vnd.sporelet.gpu.v1" }] },
    ],
    [
      "a later kind of config",
      { config: { ...vmstate, mediaType: "application/vnd.sporelet.config.v2+json" } },
    ],
  ])("refuses %s as incompatible", (_, change) => {
    expect(() => parseArtifact(changed(change))).toThrow(expect.objectContaining({ code: "incompatible" }));
  });

  it.each([
    ["no layers", { layers: undefined }, "it has no layers"],
    ["no memory", { layers: [vmstate] }, "it has no memory"],
    ["no vmstate", { layers: [memory(0)] }, "it has no vmstate"],
    ["two vmstates", { layers: [...layers, vmstate] }, "it has more than one vmstate"],
    ["a chain in disorder", { layers: [memory(1), memory(0), vmstate] }, "not in the order of the chain"],
    [
      "a size beyond all limits",
      { layers: [{ ...memory(0), size: 2 ** 52 }] },
      "claims 4503599627370496 bytes",
    ],
    ["a negative size", { layers: [{ ...memory(0), size: -1 }] }, "layers[0] has no valid size"],
    [
      "a digest that is a path",
      { layers: [{ ...memory(0), digest: "sha256:../../etc" }] },
      "no SHA-256 digest",
    ],
    [
      "a layer without its annotations",
      { layers: [{ ...memory(0), annotations: {} }] },
      "lacks the annotation",
    ],
    [
      "an index beyond the blob's end",
      {
        layers: [
          { ...memory(0), annotations: { ...memory(0).annotations, [annotationNames.indexOffset]: "990" } },
        ],
      },
      "at most 920 fits",
    ],
    [
      "an absurd size when decompressed",
      { layers: [memory(0), { ...vmstate, annotations: { [annotationNames.rawSize]: "900000000000" } }] },
      "at most 4294967296 fits",
    ],
    [
      "an index that its format does not allow",
      { layers: [withIndexOf(0, 64 * 2 ** 20 + 73), vmstate] },
      "at most 67108936 fits",
    ],
    [
      "a chain of the largest indexes",
      { layers: [...[0, 1, 2].map((layer) => withIndexOf(layer, 50 * 2 ** 20)), vmstate] },
      "the page indexes of its memory have 157286400 bytes",
    ],
    [
      "a working set of gigabytes",
      {
        layers: [
          ...layers,
          {
            ...vmstate,
            mediaType: mediaTypes.workingset,
            annotations: { [annotationNames.rawSize]: `${2 ** 31}` },
          },
        ],
      },
      "at most 67108864 fits",
    ],
    ["manifests and layers at once", { manifests: [] }, "it is a manifest and an index at once"],
    ["thousands of layers", { layers: Array(2000).fill(vmstate) }, "it has 2000 layers"],
    ["a huge config", { config: { ...vmstate, size: 2 ** 30 } }, "the config claims 1073741824 bytes"],
  ])("refuses %s as corrupt", (_, change, reason) => {
    const attempt = () => parseSnapshotManifest(changed(change), "registry.example/hello:1");
    expect(attempt).toThrow(
      expect.objectContaining({ code: "corrupt", subject: "registry.example/hello:1" }),
    );
    expect(attempt).toThrow(reason);
  });

  it.each(["not JSON", "[]", "null", '"text"', "{", '{"schemaVersion":2,"manifests":7}'])(
    "refuses %s",
    (text) => {
      expect(() => parseArtifact(Buffer.from(text))).toThrow(expect.objectContaining({ code: "corrupt" }));
    },
  );

  it("reads an index whose only snapshot is of a later version as incompatible, and passes over signatures", () => {
    const { index } = published();
    const parsed = JSON.parse(index.bytes.toString()) as { manifests: Descriptor[] };
    const signature = { ...vmstate, artifactType: "application/vnd.dev.sigstore.bundle.v0.3+json" };
    const later = parsed.manifests.map((it) => ({
      ...it,
      artifactType: "application/vnd.sporelet.snapshot.v9",
    }));
    expect(() => parseArtifact(canonicalJson({ ...parsed, manifests: later }))).toThrow("has version 9");
    const signed = canonicalJson({ ...parsed, manifests: [signature, ...parsed.manifests] });
    expect(parseArtifactIndex(signed).variants).toHaveLength(1);
  });
});

describe("what plain oras pushes", () => {
  const plain = (...titles: string[]) =>
    canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      artifactType: artifactTypes.firecracker,
      config: { mediaType: mediaTypes.empty, digest: sha256(Buffer.from("{}")), size: 2, data: "e30=" },
      layers: titles.map((title) => ({
        mediaType: "application/octet-stream",
        digest: digestOf(title),
        size: 10,
        annotations: { [annotationNames.title]: title },
      })),
    });

  it("is a list of files by title", () => {
    const artifact = parseArtifact(plain("layer1.mem", "layer1.vmstate", "layer1.config"));
    expect(artifact.kind === "plain" && [...artifact.files.keys()]).toEqual([
      "layer1.mem",
      "layer1.vmstate",
      "layer1.config",
    ]);
  });

  it.each(["../x", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b", "a\nb", "x".repeat(256)])(
    "is refused with the title %j",
    (title) => {
      expect(() => parseArtifact(plain("layer1.mem", title))).toThrow("is not a plain file name");
    },
  );

  it("is refused when two files have one title", () => {
    expect(() => parseArtifact(plain("layer1.mem", "layer1.mem"))).toThrow("more than one layer1.mem");
  });
});
