import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { resolve as resolvePath } from "node:path";
import { SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";
import { type BlobStore, createBlobs } from "./blobs.ts";
import { type Cache, createCache } from "./cache.ts";
import { type Collector, createCollector } from "./collect/collector.ts";
import { type HistoryEntry, historyOf } from "./collect/history.ts";
import { digestsIn } from "./collect/inventory.ts";
import { type RemoveOptions, removeOnRequest } from "./collect/remove.ts";
import { createDraft, type SnapshotDraft } from "./draft.ts";
import { requireFormat } from "./format.ts";
import { type Layout, layoutOf } from "./layout.ts";
import { sweepLeftovers } from "./leftovers.ts";
import { createMachineDirectories, type MachineDirectories } from "./machines.ts";
import { createPublications, type Publications } from "./publications.ts";
import { normalizeReference } from "./reference.ts";
import { resolveReference, type Target } from "./resolve.ts";
import { checkSeal } from "./seal.ts";
import { filesOf, readSnapshot, type StoredSnapshot, snapshotDirectory, verifySnapshot } from "./snapshot.ts";
import { createTags, type Tags, type TagTable } from "./tags.ts";
import { createUses, type Lease } from "./uses.ts";

export interface Store extends Collector {
  readonly root: string;
  readonly cache: Cache;
  readonly machines: MachineDirectories;
  readonly blobs: BlobStore;
  readonly publications: Publications;
  /**
   * Keeps a snapshot or a blob from being collected, whether it is there already or not, and counts as a use.
   * Without a digest: all that is used from now on, for work that does not know beforehand what it needs.
   *
   * @param holder who it is, for people: `push to registry.example/app`.
   * @throws SporeletError `unavailable` when it is being removed this moment.
   */
  lease(digest: Digest | undefined, holder: string): Lease;
  /** As `lease`, for all blobs of a transfer. Those that are being removed are gone, and can be fetched anew. */
  leaseBlobs(digests: Iterable<Digest>, holder: string): Disposable;
  /**
   * As `resolve`, with a lease: the snapshot is there, and stays until the lease is disposed of.
   *
   * @throws SporeletError as `resolve` and `lease`.
   */
  acquire(reference: string, holder: string): Promise<{ snapshot: StoredSnapshot; lease: Lease }>;
  newSnapshot(): Promise<SnapshotDraft>;
  /**
   * The snapshot that a reference names: `name[:tag]`, `sha256:…`, or 12 or more hex digits of a digest.
   *
   * @throws SporeletError `not_found` with the nearest names, `invalid_argument`, `corrupt`, `incompatible`.
   */
  resolve(reference: string): Promise<StoredSnapshot>;
  /**
   * All snapshots, the newest first.
   *
   * @param onProblem gets the error of each that cannot be read; without it the first one is thrown.
   */
  list(onProblem?: (error: SporeletError) => void): Promise<StoredSnapshot[]>;
  /** Gives a snapshot one more name; another snapshot that has the name loses it. */
  tag(reference: string, name: string): Promise<StoredSnapshot>;
  /** Takes a name away. The snapshot stays, reachable by its digest. */
  untag(name: string): Promise<void>;
  /**
   * Removes a snapshot. By a name, when it has others too, only the name goes.
   *
   * @throws SporeletError `failed_precondition` when machines use it, or children that are kept have it as
   *   their parent, and `force` is not given.
   */
  remove(
    reference: string,
    options?: RemoveOptions,
  ): Promise<{ digest: Digest; untagged: string[]; removed: boolean }>;
  /** A snapshot and its ancestors, the snapshot first, as far as they are known. */
  history(reference: string): Promise<HistoryEntry[]>;
  /** Hashes everything again and throws `corrupt` for the first file that differs. Reads all data. */
  verify(reference: string, signal?: AbortSignal): Promise<StoredSnapshot>;
  /** Quick check before a resume: all files are there, and as they were sealed. Throws `corrupt`. */
  check(snapshot: StoredSnapshot): Promise<void>;
  /** Removes what crashed processes left half-made. Returns the names of what was removed. */
  sweep(): Promise<string[]>;
}

/**
 * Opens the store in a directory, or makes one there.
 *
 * @throws SporeletError `incompatible` when a later version of Sporelet made it.
 */
export async function openStore({ root }: { root: string }): Promise<Store> {
  const layout = layoutOf(resolvePath(root));
  try {
    const { cache, snapshots, machines, blobs, partial, publications, tmp } = layout;
    for (const directory of [layout.root, cache, snapshots, machines, blobs, partial, publications, tmp]) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
    }
    await requireFormat(layout);
  } catch (error) {
    throw SporeletError.from(error, { operation: "open the store", subject: layout.root });
  }
  return createStore(layout);
}

function createStore(layout: Layout): Store {
  const tags = createTags(layout.tags);
  const uses = createUses();
  const publications = createPublications(layout);
  const find = async (reference: string): Promise<Target & { table: TagTable }> => {
    const digests = await digestsIn(layout.snapshots);
    // A name without a snapshot is what a crash can leave of a removal on a full disk.
    const table = new Map([...(await tags.read())].filter(([, digest]) => digests.includes(digest)));
    return { ...resolveReference(reference, table, digests), table };
  };
  const resolve = async (reference: string) => {
    const { digest, table } = await find(reference);
    return readSnapshot(layout, digest, namesOf(digest, table));
  };
  const lease = (digest: Digest | undefined, holder: string, options: { replaceable?: boolean } = {}) => {
    if (digest === undefined) return uses.lease(undefined, holder);
    const places = [snapshotDirectory(layout, digest), store.blobs.path(digest)];
    const taken = uses.lease(digest, holder, options);
    for (const place of places) uses.touch(digest, place);
    return taken;
  };
  const nameIt = async (digest: Digest, tag: string | undefined) => {
    if (tag !== undefined) {
      const name = normalizeReference(tag);
      await tags.update((table) => table.set(name, digest));
    }
    return readSnapshot(layout, digest, namesOf(digest, await tags.read()));
  };

  const store: Store = {
    root: layout.root,
    cache: createCache(layout, uses),
    machines: createMachineDirectories(layout),
    blobs: createBlobs(layout, uses),
    publications,
    lease: (digest, holder) => lease(digest, holder),
    leaseBlobs(digests, holder) {
      using leases = new DisposableStack();
      for (const digest of digests) leases.use(lease(digest, holder, { replaceable: true }));
      return leases.move();
    },
    newSnapshot: () =>
      createDraft(layout, {
        name: nameIt,
        find: (digest) => readIfThere(layout, digest, tags),
        async lease(digest) {
          await uses.removed(digest);
          return lease(digest, "what is being stored");
        },
      }),
    resolve,

    async acquire(reference, holder) {
      const { digest } = await find(reference);
      const taken = lease(digest, holder);
      try {
        // Once more: it may have been removed between the two.
        return { snapshot: await resolve(digest), lease: taken };
      } catch (error) {
        taken[Symbol.dispose]();
        throw error;
      }
    },

    async list(onProblem) {
      const table = await tags.read();
      const snapshots: StoredSnapshot[] = [];
      for (const digest of await digestsIn(layout.snapshots)) {
        try {
          snapshots.push(await readSnapshot(layout, digest, namesOf(digest, table)));
        } catch (error) {
          const problem = SporeletError.from(error, { operation: "read the snapshot", subject: digest });
          if (problem.code === "not_found" && !existsSync(snapshotDirectory(layout, digest))) continue;
          if (onProblem === undefined) throw problem;
          onProblem(problem);
        }
      }
      return snapshots.sort((a, b) => b.config.created.localeCompare(a.config.created));
    },

    async tag(reference, name) {
      normalizeReference(name);
      const { snapshot, lease: kept } = await store.acquire(reference, "the name that it is given");
      using _ = kept;
      return await nameIt(snapshot.digest, name);
    },

    async untag(name) {
      const { tag } = await find(name);
      if (tag === undefined) throw notAName(name);
      await tags.update((table) => table.delete(tag));
    },

    async remove(reference, options = {}) {
      const { digest, tag, table } = await find(reference);
      const names = namesOf(digest, table);
      if (tag !== undefined && names.length > 1) {
        if (options.dryRun !== true) await tags.update((changing) => changing.delete(tag));
        return { digest, untagged: [tag], removed: false };
      }
      const sources = { layout, uses, publications, tags: table, names: tags };
      await removeOnRequest(sources, { reference, digest }, options);
      return { digest, untagged: names, removed: true };
    },

    async history(reference) {
      return await historyOf(await resolve(reference), {
        find: (digest) => readIfThere(layout, digest, tags),
        publicationOf: (digest) => publications.get(digest),
      });
    },
    ...createCollector({ layout, uses, publications, tags }),

    async verify(reference, signal) {
      const snapshot = await resolve(reference);
      await verifySnapshot(snapshot, signal);
      return snapshot;
    },

    check: (snapshot) =>
      checkSeal(snapshot.directory, filesOf(snapshot), snapshot.tags[0] ?? snapshot.digest),
    sweep: () => sweepLeftovers(layout),
  };
  return store;
}

/** Of a snapshot that cannot be read nothing is known. */
async function readIfThere(layout: Layout, digest: Digest, tags: Tags): Promise<StoredSnapshot | undefined> {
  const names = namesOf(digest, await tags.read());
  return readSnapshot(layout, digest, names).catch(() => undefined);
}

function namesOf(digest: Digest, table: TagTable): string[] {
  return [...table].flatMap(([name, target]) => (target === digest ? [name] : []));
}

function notAName(reference: string): SporeletError {
  return new SporeletError({
    code: "invalid_argument",
    operation: "take the name away",
    subject: reference,
    reason: "it is a digest and not a name",
  });
}
