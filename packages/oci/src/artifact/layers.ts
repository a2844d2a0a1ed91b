import { SporeletError } from "@sporelet/errors";
import type { Descriptor } from "../descriptor.ts";
import { type Digest, isDigest } from "../digest.ts";
import { corrupt, type ReadContext } from "../json.ts";
import { annotationNames, mediaTypes } from "../media-types.ts";
import { artifactLimits } from "./limits.ts";

/** Files that travel as a chain of page-image blobs. */
const pageImageFiles = ["memory", "disk"] as const;
export type PageImageFile = (typeof pageImageFiles)[number];

/** Files that travel as one zstd stream each, in the order that they have in the manifest. */
const wholeFiles = ["vmstate", "workingset", "kernel", "initramfs"] as const;
export type WholeFile = (typeof wholeFiles)[number];

/** One step of the chain of `memory` or `disk`. */
export interface PageImageLayer {
  file: PageImageFile;
  /** Position in the chain: 0 is the base. */
  layer: number;
  /** Where the page index is in the blob. */
  index: { digest: Digest; offset: number; sizeBytes: number };
  descriptor: Descriptor;
}

export interface WholeFileLayer {
  file: WholeFile;
  /** Size when decompressed. */
  rawBytes: number;
  descriptor: Descriptor;
}

/** The descriptor of a step of the chain, as it stands in the manifest. */
export function pageImageLayer(
  blob: Omit<PageImageLayer, "descriptor"> & { digest: Digest; sizeBytes: number },
): Descriptor {
  const { file, layer, index, digest, sizeBytes } = blob;
  return {
    mediaType: mediaTypes[file],
    digest,
    size: sizeBytes,
    annotations: {
      [annotationNames.layer]: String(layer),
      [annotationNames.indexDigest]: index.digest,
      [annotationNames.indexOffset]: String(index.offset),
      [annotationNames.indexSize]: String(index.sizeBytes),
      // Gives `oras pull` a file name; nothing here reads it.
      [annotationNames.title]: `${file}.${layer}.zst`,
    },
  };
}

/** The descriptor of a file that is one zstd stream, as it stands in the manifest. */
export function wholeFileLayer(
  blob: Omit<WholeFileLayer, "descriptor"> & { digest: Digest; sizeBytes: number },
): Descriptor {
  const { file, rawBytes, digest, sizeBytes } = blob;
  return {
    mediaType: mediaTypes[file],
    digest,
    size: sizeBytes,
    annotations: { [annotationNames.rawSize]: String(rawBytes), [annotationNames.title]: `${file}.zst` },
  };
}

/**
 * Reads what a layer's descriptor says of it.
 *
 * @throws SporeletError `incompatible` for a kind of layer that is not known here, `corrupt` for wrong annotations
 */
export function parseLayer(
  descriptor: Descriptor,
  where: string,
  context: ReadContext,
): PageImageLayer | WholeFileLayer {
  const number = (name: string, largest: number): number => {
    const text = descriptor.annotations?.[name];
    if (text === undefined) throw corrupt(context, `${where} lacks the annotation ${name}`);
    const value = /^(?:0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
    if (!Number.isSafeInteger(value))
      throw corrupt(context, `annotation ${name} of ${where} is not a number`);
    if (value > largest)
      throw corrupt(context, `annotation ${name} of ${where} is ${value}, at most ${largest} fits`);
    return value;
  };
  const pageImage = pageImageFiles.find((file) => mediaTypes[file] === descriptor.mediaType);
  if (pageImage !== undefined) {
    const digest = descriptor.annotations?.[annotationNames.indexDigest];
    if (!isDigest(digest))
      throw corrupt(context, `${where} lacks the annotation ${annotationNames.indexDigest}`);
    const layer = number(annotationNames.layer, artifactLimits.layers);
    const sizeBytes = number(
      annotationNames.indexSize,
      Math.min(artifactLimits.pageIndexBytes, descriptor.size),
    );
    const offset = number(annotationNames.indexOffset, descriptor.size - sizeBytes);
    return { file: pageImage, layer, index: { digest, offset, sizeBytes }, descriptor };
  }
  const whole = wholeFiles.find((file) => mediaTypes[file] === descriptor.mediaType);
  if (whole !== undefined) {
    const { workingSetBytes, wholeFileBytes } = artifactLimits;
    const largest = whole === "workingset" ? workingSetBytes : wholeFileBytes;
    const rawBytes = number(annotationNames.rawSize, largest);
    return { file: whole, rawBytes, descriptor };
  }
  throw new SporeletError({
    ...context,
    code: "incompatible",
    reason: `${where} is a ${descriptor.mediaType}, which is not known here`,
    hint: "upgrade Sporelet",
  });
}
