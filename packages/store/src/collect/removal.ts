import { SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";
import { type Layout, takeAway } from "../layout.ts";
import type { Publications } from "../publications.ts";
import { snapshotDirectory } from "../snapshot.ts";
import type { Tags } from "../tags.ts";
import type { Uses } from "../uses.ts";
import type { FoundItem } from "./inventory.ts";

export interface RemovalContext {
  layout: Layout;
  uses: Uses;
  tags: Tags;
  publications: Publications;
}

export interface SnapshotRemoval {
  /** Names of machines that use it at this moment; asked in the turn in which the removal begins. */
  inUse(digest: Digest): string[];
  /** When it was last used as far as the caller knows; see `Uses.beginRemoval`. */
  lastUsedMs?: number;
  /** Remove it whoever uses it. */
  force?: boolean;
  /** Names go with it. Without this a name keeps it. */
  takeNames: boolean;
}

/**
 * Removes a snapshot, and how it was published. A crash in between leaves a whole snapshot, maybe without its
 * names, or none; what is left of its files is swept at the next start.
 *
 * @returns false when somebody needs it now.
 */
export async function removeSnapshot(
  { layout, uses, tags, publications }: RemovalContext,
  digest: Digest,
  { inUse, lastUsedMs, force = false, takeNames }: SnapshotRemoval,
): Promise<boolean> {
  using removal = uses.beginRemoval(digest, { lastUsedMs, force });
  if (removal === undefined) return false;
  // Nobody gives it a name from here on: that takes a lease.
  const named = [...(await tags.read()).values()].includes(digest);
  if (named && !takeNames) return false;
  if (!force && inUse(digest).length > 0) return false;
  const forget = () =>
    tags.update((table) => {
      for (const [name, target] of table) if (target === digest) table.delete(name);
    });
  // Names first: a crash in between leaves a whole snapshot without a name. On a full disk there is no
  // room for the new table until the files are gone.
  const forgotten =
    !named ||
    (await forget().then(
      () => true,
      (error) => {
        if (SporeletError.from(error, { operation: "remove" }).code !== "resource_exhausted") throw error;
        return false;
      },
    ));
  await takeAway(layout, snapshotDirectory(layout, digest));
  if (!forgotten) await forget();
  await publications.delete(digest);
  return true;
}

/**
 * Removes a blob, a partial one, or the result of a build.
 *
 * @returns false when somebody needs it now.
 */
export async function removeCached(
  { layout, uses }: RemovalContext,
  { key, lastUsedMs, path }: FoundItem,
): Promise<boolean> {
  using removal = uses.beginRemoval(key, { lastUsedMs });
  if (removal === undefined) return false;
  await takeAway(layout, path);
  return true;
}
