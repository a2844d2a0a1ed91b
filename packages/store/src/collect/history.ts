import type { Digest } from "@sporelet/page-image";
import { type ImageFile, imageFiles } from "../config.ts";
import type { Publication, PublishedLayer } from "../publications.ts";
import type { StoredSnapshot } from "../snapshot.ts";

/** One snapshot of a chain. */
export interface HistoryEntry {
  /** Undefined for an ancestor of which only the blobs are known. */
  digest?: Digest;
  /** Absent when it is not in the store. */
  snapshot?: StoredSnapshot;
  /** Bytes of its own blobs as they are published; undefined when that is not known. */
  publishedBytes?: number;
}

export interface HistorySources {
  find(digest: Digest): Promise<StoredSnapshot | undefined>;
  publicationOf(digest: Digest): Promise<Publication | undefined>;
}

/**
 * A snapshot and its ancestors, the snapshot first. Of ancestors that are not in the store, as after a pull,
 * the digest of the nearest is known from its child, and the blobs of all from how the child is published.
 */
export async function historyOf(snapshot: StoredSnapshot, sources: HistorySources): Promise<HistoryEntry[]> {
  const entries: HistoryEntry[] = [];
  /** The chain that the nearest published descendant has, and how far above the present snapshot that is. */
  let known: { publication: Publication; depth: number } | undefined;
  let digest: Digest | undefined = snapshot.digest;
  let current: StoredSnapshot | undefined = snapshot;
  while (current !== undefined && digest !== undefined) {
    const publication = await sources.publicationOf(digest);
    known =
      publication === undefined ? known && { ...known, depth: known.depth + 1 } : { publication, depth: 0 };
    const publishedBytes = known && bytesAt(known.publication, known.depth);
    entries.push({ digest, snapshot: current, ...(publishedBytes !== undefined && { publishedBytes }) });
    digest = current.config.parent;
    if (entries.some((entry) => entry.digest === digest)) return entries;
    current = digest && (await sources.find(digest));
  }
  for (let depth = (known?.depth ?? 0) + 1; ; depth++) {
    const publishedBytes = known && bytesAt(known.publication, depth);
    if (publishedBytes === undefined && digest === undefined) return entries;
    entries.push({ ...(digest && { digest }), ...(publishedBytes !== undefined && { publishedBytes }) });
    digest = undefined;
  }
}

/**
 * Bytes of the blobs of the ancestor so many steps up a chain, of the snapshot itself at 0: each has one of
 * memory and one of disk, counted from the end, since a disk may have come later than the memory.
 */
function bytesAt({ layers }: Publication, depth: number): number | undefined {
  const images = imageFiles.flatMap((file) => imageAt(layers, file, depth) ?? []);
  if (images.length === 0) return undefined;
  const others = depth > 0 ? [] : layers.filter((layer) => !isImage(layer));
  return [...images, ...others].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function imageAt(
  layers: readonly PublishedLayer[],
  file: ImageFile,
  depth: number,
): PublishedLayer | undefined {
  return layers.filter((layer) => layer.file === file).at(-1 - depth);
}

function isImage({ file }: PublishedLayer): boolean {
  return imageFiles.some((image) => image === file);
}
