import { access, mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { syncPath } from "@sporelet/host";
import { type Layout, makeTemporary, removeTemporary, requireSafeName, takeAway } from "./layout.ts";
import { syncTree } from "./sync-tree.ts";
import type { Uses } from "./uses.ts";

export interface CacheOptions {
  signal?: AbortSignal | undefined;
  /** Create it again even if it is there. Default: false. */
  refresh?: boolean | undefined;
}

/** Results of build stages, by what they were made from. An entry is complete or does not exist. */
export interface Cache {
  /**
   * The directory with a stage's result, which `create` fills the first time. Callers with the same key at
   * the same time share one creation; it goes on for the others when the one that began it gives up.
   *
   * @param stage such as `rootfs`.
   * @param key all that the result depends on, see `cacheKey`.
   */
  getOrCreate(
    stage: string,
    key: string,
    create: (directory: string) => Promise<void>,
    options?: CacheOptions,
  ): Promise<{ directory: string; cached: boolean }>;
}

/** Key of an entry among the things that are used. */
export function cacheEntryKey(stage: string, key: string): string {
  return `${stage}/${key}`;
}

export function createCache(layout: Layout, uses: Uses): Cache {
  const creations = new Map<string, Promise<void>>();

  /** Fills a temporary directory and puts it into place. */
  async function fill(
    place: string,
    create: (directory: string) => Promise<void>,
    refresh: boolean,
  ): Promise<void> {
    const temporary = await makeTemporary(layout);
    try {
      const result = join(temporary, "result");
      await mkdir(result, { mode: 0o700 });
      await create(result);
      await syncTree(result);
      const stage = join(place, "..");
      await mkdir(stage, { recursive: true, mode: 0o700 });
      if (refresh) await takeAway(layout, place);
      await rename(result, place).catch(ignoreExisting);
      await syncPath(stage);
    } finally {
      await removeTemporary(temporary);
    }
  }

  return {
    async getOrCreate(stage, key, create, { signal, refresh = false } = {}) {
      const operation = "use the build cache for";
      const place = join(layout.cache, requireSafeName(stage, operation), requireSafeName(key, operation));
      try {
        for (;;) {
          signal?.throwIfAborted();
          const creation = creations.get(place);
          if (creation === undefined) break;
          try {
            await untilAborted(creation, signal);
            uses.touch(cacheEntryKey(stage, key), place);
            return { directory: place, cached: true };
          } catch (error) {
            // Another caller's creation was called off; this one still wants it.
            if (!wasCancelled(error)) throw error;
          }
        }
        const creation = (async () => {
          await uses.removed(cacheEntryKey(stage, key));
          uses.touch(cacheEntryKey(stage, key), place);
          if (!refresh && (await exists(place))) return true;
          await fill(place, create, refresh);
          return false;
        })();
        const settled = creation.then(() => {});
        creations.set(place, settled);
        try {
          return { directory: place, cached: await creation };
        } finally {
          creations.delete(place);
          await settled.catch(() => {}); // It is handled above, and by those who wait for it.
        }
      } catch (error) {
        throw SporeletError.from(error, { operation, subject: stage });
      }
    },
  };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return false;
      throw error;
    },
  );
}

/** Another process was quicker; equal keys mean equal results. */
function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
}

function wasCancelled(error: unknown): boolean {
  return (
    error instanceof Error &&
    (error.name === "AbortError" || (error as { code?: unknown }).code === "cancelled")
  );
}

/** Waits for a promise that others wait for too, but not longer than the signal allows. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
