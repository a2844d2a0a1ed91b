import { type Descriptor, pageImageLayer, parseLayer, wholeFileLayer } from "@sporelet/oci";
import type { IndexRef } from "@sporelet/page-image";
import type { ImageFile, PublishedLayer, SnapshotFile } from "@sporelet/store";

/** A blob that was just encoded. */
type Blob = Pick<PublishedLayer, "digest" | "sizeBytes">;

/** How a step of the chain of memory or disk is published. */
export function imageLayer(file: ImageFile, layer: number, blob: Blob & { index: IndexRef }): PublishedLayer {
  const { digest, sizeBytes, index } = blob;
  return layerOf(pageImageLayer({ file, layer, index, digest, sizeBytes }));
}

/** How a file that travels whole is published. */
export function wholeLayer(
  file: Exclude<SnapshotFile, ImageFile>,
  rawBytes: number,
  { digest, sizeBytes }: Blob,
): PublishedLayer {
  return layerOf(wholeFileLayer({ file, rawBytes, digest, sizeBytes }));
}

/** @throws SporeletError `corrupt`, `incompatible` */
export function layerOf(descriptor: Descriptor): PublishedLayer {
  const { mediaType, digest, size, annotations = {} } = descriptor;
  const { file } = parseLayer(descriptor, "a layer", { operation: "read the layers of a snapshot" });
  return { file, mediaType, digest, sizeBytes: size, annotations };
}

export function descriptorOf({ mediaType, digest, sizeBytes, annotations }: PublishedLayer): Descriptor {
  return { mediaType, digest, size: sizeBytes, annotations };
}

/** What a layer is called where people see it: `memory of layer 1`, `kernel`. */
export function titleOf(layer: PublishedLayer, chain: readonly PublishedLayer[]): string {
  const steps = chain.filter(({ file }) => file === layer.file);
  if (steps.length < 2) return layer.file;
  return `${layer.file}, step ${steps.indexOf(layer) + 1} of ${steps.length}`;
}
