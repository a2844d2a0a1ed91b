import { utimes } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";

/** Keeps something in the store, until it is disposed of. */
export interface Lease extends Disposable {
  readonly holder: string;
}

/**
 * Who uses what, in this process: the one that owns the store. Things have a key; whoever takes a lease on a
 * key, or has begun any work that took one, is safe from the collector: it asks `beginRemoval` first, in the
 * same turn of the event loop in which it begins to remove.
 */
export interface Uses {
  /**
   * Keeps a thing from being removed, whether it is there already or not. Without a key: everything that is
   * used from now on, for work that does not know beforehand what it will need.
   *
   * @param options.replaceable whoever takes it waits for `removed` and can get it from elsewhere. Default: false.
   * @throws SporeletError `unavailable` when the thing is being removed this moment, and is not replaceable.
   */
  lease(key: string | undefined, holder: string, options?: { replaceable?: boolean }): Lease;
  /** Notes that a thing is used now, here and as the file's time of change. A file that is gone is fine. */
  touch(key: string, path: string): void;
  /**
   * Who needs a thing: holders of leases on it, and of those that began before it was last used.
   *
   * @param lastUsedMs what its time of change says. Without it only leases on the thing itself count.
   */
  holdersOf(key: string, lastUsedMs?: number): string[];
  /**
   * Reserves a thing for its removal.
   *
   * @param options.lastUsedMs as in `holdersOf`; without it only leases on the thing itself count
   * @param options.force even if it is leased. Default: false.
   * @returns undefined when somebody needs it, or it is being removed already.
   */
  beginRemoval(
    key: string,
    options?: { lastUsedMs?: number | undefined; force?: boolean | undefined },
  ): Disposable | undefined;
  /** Waits until a thing is not being removed any more. */
  removed(key: string): Promise<void>;
}

/** A lease, and when it began. */
interface Taken {
  key: string | undefined;
  holder: string;
  /** By the count of what happened here. */
  since: number;
  /** By the clock. */
  sinceMs: number;
}

export function createUses(now: () => number = Date.now): Uses {
  const leases = new Map<symbol, Taken>();
  /** What was used while there were leases, by the same count as these: a clock that is set back changes nothing. */
  const lastUses = new Map<string, number>();
  const removals = new Map<string, { ended: Promise<void> }>();
  let count = 0;

  const holdersOf = (key: string, lastUsedMs?: number) => {
    const lastUse = lastUses.get(key) ?? 0;
    const isNeededBy = (lease: Taken) => {
      if (lease.key === key) return true;
      // A time of change counts for what was used without a word of it, such as a file that is written to.
      return lastUsedMs !== undefined && (lastUse > lease.since || lastUsedMs >= lease.sinceMs);
    };
    return [...new Set([...leases.values()].filter(isNeededBy).map(({ holder }) => holder))];
  };

  return {
    lease(key, holder, { replaceable = false } = {}) {
      if (key !== undefined && removals.has(key) && !replaceable) {
        throw new SporeletError({
          code: "unavailable",
          operation: "use",
          subject: key,
          reason: "it is being removed",
          hint: "try again; it has to be fetched or built anew",
        });
      }
      const id = Symbol(holder);
      leases.set(id, { key, holder, since: ++count, sinceMs: now() });
      return {
        holder,
        [Symbol.dispose]() {
          leases.delete(id);
          // No lease that comes later began before these uses.
          if (leases.size === 0) lastUses.clear();
        },
      };
    },
    touch(key, path) {
      const time = now();
      if (leases.size > 0) lastUses.set(key, ++count);
      // Only the order of collecting depends on it: nobody waits for it, and what is gone needs no time.
      utimes(path, time / 1000, time / 1000).catch(() => {});
    },
    holdersOf,
    beginRemoval(key, { lastUsedMs, force = false } = {}) {
      if (removals.has(key) || (!force && holdersOf(key, lastUsedMs).length > 0)) return undefined;
      const { promise: ended, resolve } = Promise.withResolvers<void>();
      removals.set(key, { ended });
      return {
        [Symbol.dispose]() {
          removals.delete(key);
          resolve();
        },
      };
    },
    async removed(key) {
      await removals.get(key)?.ended;
    },
  };
}
