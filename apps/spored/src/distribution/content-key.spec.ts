import type { PageImageLayer, WholeFileLayer } from "@sporelet/oci";
import { expect, it } from "vitest";
import { contentKey, type WantedContent } from "./content-key.ts";

const digest = (digit: string): `sha256:${string}` => `sha256:${digit.repeat(64)}`;
const step = (own: string, index: string): PageImageLayer => ({
  ...{ file: "memory", layer: 0, index: { digest: digest(index), offset: 900, sizeBytes: 100 } },
  descriptor: { mediaType: "m", digest: digest(own), size: 1000 },
});
const file = (name: "vmstate" | "kernel", own: string): WholeFileLayer => ({
  ...{ file: name, rawBytes: 5000, descriptor: { mediaType: "m", digest: digest(own), size: 700 } },
});
const [vmstate, kernel] = [file("vmstate", "c"), file("kernel", "d")];
const wanted: WantedContent = {
  digest: digest("0"),
  layers: { memory: [step("a", "b")], disk: [], files: { vmstate, kernel } },
  origin: { registry: "good.example", repository: "team/app" },
};
const withLayers = (layers: Partial<WantedContent["layers"]>): WantedContent => ({
  ...wanted,
  layers: { ...wanted.layers, ...layers },
});

it("is the same for the same content, in whatever order its files are listed", () => {
  expect(contentKey(withLayers({ files: { kernel, vmstate } }))).toBe(contentKey(wanted));
});

it.each<[string, WantedContent]>([
  ["config", { ...wanted, digest: digest("1") }],
  ["registry", { ...wanted, origin: { ...wanted.origin, registry: "evil.example" } }],
  ["repository", { ...wanted, origin: { ...wanted.origin, repository: "team/other" } }],
  ["blob of memory", withLayers({ memory: [step("e", "b")] })],
  ["index of a blob", withLayers({ memory: [step("a", "e")] })],
  ["number of steps", withLayers({ memory: [step("a", "b"), step("a", "b")] })],
  ["disk", withLayers({ disk: [{ ...step("a", "b"), file: "disk" }] })],
  ["vmstate", withLayers({ files: { kernel, vmstate: file("vmstate", "e") } })],
  ["set of files", withLayers({ files: { vmstate } })],
])("is another one for another %s", (_, other) => {
  expect(contentKey(other)).not.toBe(contentKey(wanted));
});
