import { SporeletError } from "@sporelet/errors";
import { type Content, type Descriptor, describe, parseAnnotations, parseDescriptor } from "../descriptor.ts";
import { canonicalJson, corrupt, type JsonObject, type ReadContext } from "../json.ts";
import { artifactTypes, mediaTypes } from "../media-types.ts";
import {
  type PageImageFile,
  type PageImageLayer,
  parseLayer,
  type WholeFile,
  type WholeFileLayer,
} from "./layers.ts";
import { artifactLimits } from "./limits.ts";

/** The pure artifact: everything that a snapshot is, as one manifest. */
export interface SnapshotManifest {
  kind: "snapshot";
  /** Its digest is the digest of the snapshot. */
  config: Descriptor;
  /** All layers in the order of the manifest. */
  layers: readonly Descriptor[];
  /** Base first. */
  memory: readonly PageImageLayer[];
  /** Base first; empty on machines without a disk. */
  disk: readonly PageImageLayer[];
  files: Readonly<Partial<Record<WholeFile, WholeFileLayer>>>;
  annotations: Readonly<Record<string, string>>;
}

/**
 * The manifest of a snapshot. The same input always gives the same bytes.
 *
 * @param options.config the bytes of the snapshot's config.json, unchanged
 * @param options.layers the whole chain, as `pageImageLayer` and `wholeFileLayer` describe it
 * @returns the manifest and the config: both have to be sent
 */
export function snapshotManifest(options: {
  config: Buffer;
  layers: readonly Descriptor[];
  annotations?: Readonly<Record<string, string>>;
}): { manifest: Content; config: Content } {
  const config = describe(options.config, mediaTypes.config);
  const bytes = canonicalJson({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType: artifactTypes.snapshot,
    config: config.descriptor,
    layers: options.layers,
    annotations: options.annotations,
  });
  // Whatever is sent can be read back: a wrong chain is found here, and not by whoever pulls it.
  readSnapshotManifest(JSON.parse(bytes.toString()), { operation: "describe the snapshot" });
  return { manifest: describe(bytes, mediaTypes.manifest, { artifactType: artifactTypes.snapshot }), config };
}

/**
 * Reads the manifest of a snapshot.
 *
 * @throws SporeletError `corrupt`; `incompatible` for versions and layers that are not known here
 */
export function readSnapshotManifest(manifest: JsonObject, context: ReadContext): SnapshotManifest {
  requireMediaType(manifest, mediaTypes.manifest, context);
  requireVersion(artifactTypeOf(manifest), artifactTypes.snapshot, "the artifact's type", context);
  const config = parseDescriptor(manifest.config, "the config", artifactLimits.configBytes, context);
  requireVersion(config.mediaType, mediaTypes.config, "the config's type", context);
  const layers = parseLayers(manifest, context);
  const pages: Record<PageImageFile, PageImageLayer[]> = { memory: [], disk: [] };
  const files: Partial<Record<WholeFile, WholeFileLayer>> = {};
  for (const [i, descriptor] of layers.entries()) {
    const layer = parseLayer(descriptor, `layers[${i}]`, context);
    if (layer.file === "memory" || layer.file === "disk") append(pages[layer.file], layer, context);
    else if (files[layer.file] === undefined) files[layer.file] = layer as WholeFileLayer;
    else throw corrupt(context, `it has more than one ${layer.file}`);
  }
  for (const chain of [pages.memory, pages.disk]) requireReadable(chain, context);
  if (pages.memory.length === 0) throw corrupt(context, "it has no memory");
  if (files.vmstate === undefined) throw corrupt(context, "it has no vmstate");
  const annotations = parseAnnotations(manifest, "the manifest", context) ?? {};
  return { kind: "snapshot", config, layers, ...pages, files, annotations };
}

/** The layers of a manifest: at most so many, and each of a size that can be. */
export function parseLayers(manifest: JsonObject, context: ReadContext): Descriptor[] {
  const { layers } = manifest;
  if (!Array.isArray(layers)) throw corrupt(context, "it has no layers");
  if (layers.length > artifactLimits.layers) {
    throw corrupt(context, `it has ${layers.length} layers; at most ${artifactLimits.layers} are allowed`);
  }
  return layers.map((layer, i) => parseDescriptor(layer, `layers[${i}]`, artifactLimits.blobBytes, context));
}

export function requireMediaType(manifest: JsonObject, expected: string, context: ReadContext): void {
  if (manifest.schemaVersion !== 2) throw corrupt(context, "its schema version is not 2");
  // Content that can be read as two things is refused: image-spec GHSA-77vh-xpmg-72qh.
  if (manifest.manifests !== undefined && (manifest.layers !== undefined || manifest.config !== undefined)) {
    throw corrupt(context, "it is a manifest and an index at once");
  }
  if (manifest.mediaType !== undefined && manifest.mediaType !== expected) {
    throw corrupt(context, `it says that it is a ${String(manifest.mediaType)}`);
  }
}

/** Compares types like `application/vnd.sporelet.snapshot.v1`: another version is told from another thing. */
export function requireVersion(actual: string, expected: string, what: string, context: ReadContext): void {
  if (actual === expected) return;
  const version = familyOf(actual) === familyOf(expected) ? /\.v(\d+)/.exec(actual)?.[1] : undefined;
  throw new SporeletError({
    ...context,
    code: "incompatible",
    reason:
      version === undefined
        ? `${what} is ${actual}, not ${expected}`
        : `${what} has version ${version}; this Sporelet knows version 1`,
    hint: version === undefined ? undefined : "upgrade Sporelet",
  });
}

/** What an artifact is. Before image-spec 1.1 the type of its config said so. */
export function artifactTypeOf(manifest: JsonObject): string {
  if (typeof manifest.artifactType === "string") return manifest.artifactType;
  const { config } = manifest as { config?: { mediaType?: unknown } | null };
  return String(config?.mediaType ?? "");
}

/** A type without its version. */
export function familyOf(type: string): string {
  return type.replace(/\.v\d+(?=$|\+)/, "");
}

/** Each index may be as large as one can be, but not all of them. */
function requireReadable(chain: readonly PageImageLayer[], context: ReadContext): void {
  const indexBytes = chain.reduce((sum, { index }) => sum + index.sizeBytes, 0);
  if (indexBytes <= artifactLimits.chainIndexBytes) return;
  const file = chain[0]?.file;
  throw corrupt(
    context,
    `the page indexes of its ${file} have ${indexBytes} bytes; at most ${artifactLimits.chainIndexBytes} are allowed`,
  );
}

function append(chain: PageImageLayer[], layer: PageImageLayer, context: ReadContext): void {
  const last = chain.at(-1)?.layer ?? -1;
  if (layer.layer <= last)
    throw corrupt(context, `the layers of ${layer.file} are not in the order of the chain`);
  chain.push(layer);
}
