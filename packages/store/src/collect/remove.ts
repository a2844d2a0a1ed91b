import { SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";
import { enumerate } from "./choose.ts";
import { type InventorySources, type Residents, takeInventory } from "./inventory.ts";
import { keptBy, lineageOf, shortId } from "./plan.ts";
import { type RemovalContext, removeSnapshot } from "./removal.ts";

export interface RemoveOptions {
  /** Names of the machines that it is not taken away from. Default: nobody uses it. */
  inUse?: (digest: Digest) => string[];
  /** What children are kept by, beside their names. Default: `inUse`. */
  residents?: Residents;
  /**
   * Remove it even so. Running machines keep the files that they have open; children keep their own files,
   * which are whole, and are published whole from then on. Default: false.
   */
  force?: boolean;
  /** Only say what would be removed. Default: false. */
  dryRun?: boolean;
}

type Sources = Omit<InventorySources, "residents"> &
  Omit<RemovalContext, "tags"> & { names: RemovalContext["tags"] };

/**
 * Removes a snapshot that somebody asked to remove.
 *
 * @param reference as it was asked for, for errors
 * @throws SporeletError `failed_precondition` when machines or children that are kept need it.
 */
export async function removeOnRequest(
  sources: Sources,
  { reference, digest }: { reference: string; digest: Digest },
  options: RemoveOptions,
): Promise<void> {
  const { inUse = () => [], force = false, dryRun = false } = options;
  if (!force) {
    requireUnused(reference, inUse(digest), sources.uses.holdersOf(digest));
    await requireNoChildren(sources, reference, digest, options.residents ?? { inUse });
  }
  if (dryRun) return;
  const { layout, uses, publications, names: tags } = sources;
  const context = { layout, uses, publications, tags };
  if (await removeSnapshot(context, digest, { inUse, force, takeNames: true })) return;
  // Somebody came for it meanwhile, or the collector was quicker.
  await uses.removed(digest);
  requireUnused(reference, inUse(digest), uses.holdersOf(digest));
}

function requireUnused(subject: string, machines: readonly string[], holders: readonly string[]): void {
  const users = [...machines, ...holders];
  if (users.length === 0) return;
  throw new SporeletError({
    code: "failed_precondition",
    operation: "remove the snapshot",
    subject,
    reason: `it is used by ${enumerate(users)}`,
    hint:
      machines.length > 0
        ? "remove these machines first, or force it"
        : "wait until that has ended, or force it",
  });
}

async function requireNoChildren(
  sources: Sources,
  subject: string,
  digest: Digest,
  residents: Residents,
): Promise<void> {
  const items = await takeInventory({ ...sources, residents });
  const item = items.find(({ kind, id }) => kind === "snapshot" && id === digest);
  if (item === undefined) return;
  const kept = keptBy(items);
  const children = lineageOf(items)
    .childrenOf(item)
    .filter((child) => kept.has(child));
  if (children.length === 0) return;
  throw new SporeletError({
    code: "failed_precondition",
    operation: "remove the snapshot",
    subject,
    reason: `it is the parent of ${enumerate(children.map(({ id, tags }) => tags[0] ?? shortId(id)))}`,
    hint: "remove these first, or force it: they stay whole, and are published whole from then on",
  });
}
