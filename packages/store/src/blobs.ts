import { access, chmod, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { syncPath } from "@sporelet/host";
import type { Digest } from "@sporelet/page-image";
import { hexOf } from "./digest-name.ts";
import type { Layout } from "./layout.ts";
import type { Uses } from "./uses.ts";

/**
 * What registries hold, by digest: a cache of what was encoded or fetched. A blob is complete or does not
 * exist; the file of a transfer that was interrupted lies elsewhere, and can be gone on with.
 *
 * Everything here may be collected when nobody has a lease on it (`Store.lease`).
 */
export interface BlobStore {
  /** The path of a blob, whether it is there or not. */
  path(digest: Digest): string;
  /** Whether it is there. Counts as a use. */
  has(digest: Digest): Promise<boolean>;
  /**
   * Puts a file in place as a blob. The caller has verified that its content has this digest.
   *
   * @param file on the store's file system; it is gone afterwards.
   */
  put(file: string, digest: Digest): Promise<void>;
  /**
   * Removes a blob that is of no more use; whoever has it open keeps it. One that somebody has leased stays, and is
   * theirs to remove.
   *
   * @param options.force even if it is leased: it is damaged. Default: false.
   */
  remove(digest: Digest, options?: { force?: boolean }): Promise<void>;
  /** Where a blob is put together while it arrives. What an interrupted transfer left is there still. Counts as a use. */
  partial(digest: Digest): Promise<string>;
  /** Throws away what has arrived of a blob. */
  discardPartial(digest: Digest): Promise<void>;
}

export function createBlobs(layout: Layout, uses: Uses): BlobStore {
  const path = (digest: Digest) => join(layout.blobs, hexOf(digest, "use the blob"));
  const partial = (digest: Digest) => join(layout.partial, hexOf(digest, "fetch the blob"));
  return {
    path,
    async has(digest) {
      const place = path(digest);
      await uses.removed(digest);
      uses.touch(digest, place);
      return await exists(place);
    },
    async put(file, digest) {
      const place = path(digest);
      try {
        await chmod(file, 0o400);
        await syncPath(file);
        await uses.removed(digest);
        uses.touch(digest, file);
        // The same content under the same name: whoever has the old one open keeps it.
        await rename(file, place);
        await syncPath(layout.blobs);
      } catch (error) {
        throw SporeletError.from(error, { operation: "store the blob", subject: digest });
      }
    },
    async remove(digest, { force = false } = {}) {
      const place = path(digest);
      using removal = uses.beginRemoval(digest, { force });
      // Without a reservation somebody needs it, or the collector is at it.
      if (removal !== undefined) await rm(place, { force: true });
    },
    async partial(digest) {
      const place = partial(digest);
      uses.touch(digest, place);
      return place;
    },
    async discardPartial(digest) {
      await rm(partial(digest), { force: true });
    },
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw SporeletError.from(error, { operation: "look for", subject: path });
  }
}
