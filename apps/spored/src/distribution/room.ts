import { stat, statfs } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { canReflink } from "@sporelet/host";
import type {
  FileRecord,
  PublishedLayer,
  SnapshotConfig,
  SnapshotFile,
  StoredSnapshot,
} from "@sporelet/store";
import type { Node } from "../node.ts";

/** A snapshot that is to be fetched. */
export interface Arrival {
  config: Pick<SnapshotConfig, "files">;
  /** Blobs that are fetched into the store, unless they are there. */
  layers: readonly Pick<PublishedLayer, "file" | "digest" | "sizeBytes">[];
  /** A snapshot in the store: files that it has are cloned, and fetched only as far as they go beyond it. */
  base?: Pick<StoredSnapshot, "config"> | undefined;
}

/**
 * Refuses what cannot fit before anything of it is fetched: blobs, and the pages that are not zero.
 *
 * @throws SporeletError `resource_exhausted`
 */
export async function requireRoom(node: Pick<Node, "store">, name: string, arrival: Arrival): Promise<void> {
  const { layers, base } = arrival;
  let neededBytes = 0;
  for (const [digest, sizeBytes] of new Map(layers.map((layer) => [layer.digest, layer.sizeBytes]))) {
    if (await node.store.blobs.has(digest)) continue;
    const arrived = await stat(await node.store.blobs.partial(digest)).catch(() => undefined);
    neededBytes += Math.max(0, sizeBytes - (arrived?.size ?? 0));
  }
  // A disk that is too full to find that out is too full for the rest as well.
  const sharesBlocks = base !== undefined && (await canReflink(node.store.root).catch(() => true));
  neededBytes += unpackedBytes(arrival, sharesBlocks);
  const { bavail, bsize } = await statfs(node.store.root);
  if (neededBytes <= bavail * bsize) return;
  const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  throw new SporeletError({
    code: "resource_exhausted",
    operation: "fetch",
    subject: name,
    reason: `it needs ${mib(neededBytes)}, and the store has ${mib(bavail * bsize)} left`,
    hint: "make room with sporectl cache gc, or see sporectl cache ls",
  });
}

/**
 * What the flat files of a snapshot take when they are made. Pure.
 *
 * @param sharesBlocks whether clones of the base's files take nothing by themselves (reflinks)
 */
export function unpackedBytes({ config, layers, base }: Arrival, sharesBlocks: boolean): number {
  let bytes = 0;
  for (const [file, record] of Object.entries(config.files) as [SnapshotFile, FileRecord][]) {
    const below = base?.config.files[file];
    const steps = layers.filter((layer) => layer.file === file);
    const isImage = file === "memory" || file === "disk";
    if (below === undefined || (!isImage && steps.length > 0)) bytes += record.usedBytes;
    // What becomes zero is given back before anything is written over the copy.
    else if (!sharesBlocks) bytes += Math.max(record.usedBytes, below.usedBytes);
    else bytes += changedBytes(record, below, steps);
  }
  return bytes;
}

/**
 * Pages of an image that are not its base's. The config knows those of the last step; of the steps between, pages take
 * at least as much as their blobs, unless a later step has them too.
 */
function changedBytes(
  { usedBytes, ownBytes = usedBytes }: FileRecord,
  below: FileRecord,
  steps: Arrival["layers"],
): number {
  if (steps.length === 0) return 0;
  const between = steps.slice(0, -1).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return Math.min(usedBytes, Math.max(ownBytes + between, usedBytes - below.usedBytes));
}
