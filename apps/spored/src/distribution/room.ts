import { stat, statfs } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import type { PublishedLayer, SnapshotConfig } from "@sporelet/store";
import type { Node } from "../node.ts";

/**
 * Refuses what cannot fit before anything of it is fetched: blobs, and the pages that are not zero.
 *
 * @param layers what has to be fetched, unless it is here
 * @param onBase whether the pages that it does not have of its own come from a snapshot that is here
 * @throws SporeletError `resource_exhausted`
 */
export async function requireRoom(
  node: Node,
  name: string,
  layers: readonly Pick<PublishedLayer, "digest" | "sizeBytes">[],
  config: Pick<SnapshotConfig, "files">,
  onBase: boolean,
): Promise<void> {
  let neededBytes = 0;
  for (const [digest, sizeBytes] of new Map(layers.map((layer) => [layer.digest, layer.sizeBytes]))) {
    if (await node.store.blobs.has(digest)) continue;
    const arrived = await stat(await node.store.blobs.partial(digest)).catch(() => undefined);
    neededBytes += Math.max(0, sizeBytes - (arrived?.size ?? 0));
  }
  for (const { usedBytes, ownBytes } of Object.values(config.files)) {
    neededBytes += onBase ? (ownBytes ?? usedBytes) : usedBytes;
  }
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
