import { SporeletError } from "@sporelet/errors";
import { formatImageReference, type ImageReference, isRegistry } from "@sporelet/oci";
import { normalizeReference } from "@sporelet/store";
import type { Node } from "../node.ts";

/** Whether a name says which registry it is in. */
export function namesRegistry(reference: string): boolean {
  const [host = "", ...rest] = reference.split("/");
  return rest.length > 0 && isRegistry(host);
}

/** What a snapshot is called here when it is given no other name; nothing when it is named by a digest. */
export function ownName({
  registry,
  repository,
  tag = "latest",
  digest,
}: ImageReference): string | undefined {
  if (digest !== undefined) return undefined;
  return normalizeReference(formatImageReference({ registry, repository, tag }));
}

export async function isStored(node: Node, digest: string): Promise<boolean> {
  try {
    await node.store.resolve(digest);
    return true;
  } catch (error) {
    if (error instanceof SporeletError && error.code === "not_found") return false;
    throw error;
  }
}
