import { statfs } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import type { PublishedLayer, SnapshotConfig } from "@sporelet/store";
import type { Node } from "../node.ts";

/**
 * Refuses what cannot fit before anything of it is fetched: blobs, and the pages that are not zero.
 *
 * @throws SporeletError `resource_exhausted`
 */
export async function requireRoom(
  node: Node,
  name: string,
  layers: readonly Pick<PublishedLayer, "sizeBytes">[],
  config: Pick<SnapshotConfig, "files">,
): Promise<void> {
  const blobBytes = layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  // A child whose parent is here takes only its own pages, but that is not known before the blobs are.
  const ownBytes = Object.values(config.files).reduce(
    (sum, { usedBytes, ownBytes: own }) => sum + (own ?? usedBytes),
    0,
  );
  const { bavail, bsize } = await statfs(node.store.root);
  const neededBytes = blobBytes + ownBytes;
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
