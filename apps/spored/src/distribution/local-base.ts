import { imageFiles, type PublishedLayer, type StoredSnapshot } from "@sporelet/store";
import type { Node } from "../node.ts";

/** A snapshot in the store that has all pages of the first steps of a chain. */
export interface LocalBase extends Disposable {
  snapshot: StoredSnapshot;
  /** The steps that it stands for, of memory and disk. */
  digests: ReadonlySet<string>;
}

/**
 * The snapshot in the store from which the fewest steps are left to the end of a chain; it is kept from being
 * collected until it is disposed of. Undefined when there is none.
 */
export async function localBase(
  node: Node,
  chain: readonly PublishedLayer[],
): Promise<LocalBase | undefined> {
  let best: { snapshot: StoredSnapshot; steps: string[] } | undefined;
  for (const snapshot of await node.store.list(() => {})) {
    const published = await node.store.publications.get(snapshot.digest);
    const steps = published && stepsInCommon(published.layers, chain);
    if (steps !== undefined && steps.length > (best?.steps.length ?? 0)) best = { snapshot, steps };
  }
  if (best === undefined) return undefined;
  const lease = node.store.lease(best.snapshot.digest, "base of a pull");
  return {
    snapshot: best.snapshot,
    digests: new Set(best.steps),
    [Symbol.dispose]: () => lease[Symbol.dispose](),
  };
}

/** The image steps of `own`, when they are the first of `chain`, for memory and disk alike. */
function stepsInCommon(
  own: readonly PublishedLayer[],
  chain: readonly PublishedLayer[],
): string[] | undefined {
  const steps: string[] = [];
  for (const file of imageFiles) {
    const ours = own.filter((layer) => layer.file === file).map(({ digest }) => digest);
    const theirs = chain.filter((layer) => layer.file === file).map(({ digest }) => digest);
    if (ours.some((digest, i) => theirs[i] !== digest)) return undefined;
    steps.push(...ours);
  }
  return steps;
}
