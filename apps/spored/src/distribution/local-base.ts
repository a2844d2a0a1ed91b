import { annotationNames } from "@sporelet/oci";
import { type ImageFile, imageFiles, type PublishedLayer, type StoredSnapshot } from "@sporelet/store";
import type { Node } from "../node.ts";

/** A snapshot in the store that has all pages of the first steps of a chain. */
export interface LocalBase extends Disposable {
  snapshot: StoredSnapshot;
  /** How many steps of memory and disk it stands for. */
  steps: Readonly<Record<ImageFile, number>>;
}

/**
 * The snapshot in the store from which the fewest steps are left to the end of a chain; it is kept from being
 * collected until it is disposed of. Undefined when there is none.
 */
export async function localBase(
  node: Pick<Node, "store">,
  chain: readonly PublishedLayer[],
): Promise<LocalBase | undefined> {
  const found: { snapshot: StoredSnapshot; steps: LocalBase["steps"] }[] = [];
  for (const snapshot of await node.store.list(() => {})) {
    // One that cannot be read costs nothing but the time to fetch what it would have spared.
    const published = await node.store.publications.get(snapshot.digest).catch(() => undefined);
    const steps = published && stepsInCommon(published.layers, chain);
    if (steps !== undefined && countOf(steps) > 0) found.push({ snapshot, steps });
  }
  found.sort((a, b) => countOf(b.steps) - countOf(a.steps));
  for (const { snapshot, steps } of found) {
    // Removed meanwhile, or about to be: then the next one.
    const held = await node.store.acquire(snapshot.digest, "base of a pull").catch(() => undefined);
    if (held === undefined) continue;
    return { snapshot: held.snapshot, steps, [Symbol.dispose]: () => held.lease[Symbol.dispose]() };
  }
  return undefined;
}

/**
 * The layers that a base leaves to be fetched. They are told by their place: the same blob can come again later in
 * a chain, when what one step wrote is written anew after another step.
 */
export function layersBeyond(
  base: Pick<LocalBase, "steps"> | undefined,
  layers: readonly PublishedLayer[],
): PublishedLayer[] {
  const passed = { memory: 0, disk: 0 };
  return layers.filter(({ file }) => {
    if (base === undefined || (file !== "memory" && file !== "disk")) return true;
    passed[file] += 1;
    return passed[file] > base.steps[file];
  });
}

function countOf({ memory, disk }: LocalBase["steps"]): number {
  return memory + disk;
}

/** How many image steps `own` has, when they are the first of `chain`, for memory and disk alike. */
function stepsInCommon(
  own: readonly PublishedLayer[],
  chain: readonly PublishedLayer[],
): LocalBase["steps"] | undefined {
  const steps = { memory: 0, disk: 0 };
  for (const file of imageFiles) {
    const ours = own.filter((layer) => layer.file === file).map(contentOf);
    const theirs = chain.filter((layer) => layer.file === file).map(contentOf);
    if (ours.some((content, i) => theirs[i] !== content)) return undefined;
    steps[file] = ours.length;
  }
  return steps;
}

/**
 * What pages a step has. Its index tells them, to the byte; that a blob of this digest has this index is only known
 * of blobs that were fetched whole, which those of a lazy start are not.
 */
function contentOf({ digest, annotations }: PublishedLayer): string {
  return `${digest} ${annotations[annotationNames.indexDigest]}`;
}
