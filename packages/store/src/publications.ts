import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { writeFileAtomic } from "@sporelet/host";
import type { Digest } from "@sporelet/page-image";
import { type SnapshotFile, snapshotFiles } from "./config.ts";
import { hexOf, isDigest } from "./digest-name.ts";
import type { Layout } from "./layout.ts";

/** A blob of a snapshot's artifact. */
export interface PublishedLayer {
  /** What it is of; the memory and the disk of a chain have one for each snapshot, base first. */
  file: SnapshotFile;
  mediaType: string;
  digest: Digest;
  sizeBytes: number;
  annotations: Record<string, string>;
}

/** How a snapshot is published. */
export interface Publication {
  /** The whole chain, in the order of the artifact. */
  layers: PublishedLayer[];
  /** Repositories that have these blobs, `host[:port]/path`. */
  origins: string[];
}

/** What is known about how snapshots are published: beside them, since they themselves never change. */
export interface Publications {
  /** @throws SporeletError `corrupt` when the file is malformed. */
  get(snapshot: Digest): Promise<Publication | undefined>;
  set(snapshot: Digest, publication: Publication): Promise<void>;
  /** Forgets it; nothing known is fine. */
  delete(snapshot: Digest): Promise<void>;
}

/** A chain of a thousand snapshots, and some more. */
const mostLayers = 8192;

export function createPublications(layout: Layout): Publications {
  const path = (digest: Digest) =>
    join(layout.publications, `${hexOf(digest, "look up how it is published")}.json`);
  return {
    async get(digest) {
      const place = path(digest);
      let text: string;
      try {
        text = await readFile(place, "utf8");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw SporeletError.from(error, { operation: "read", subject: place });
      }
      return parsePublication(text, place);
    },
    async set(digest, publication) {
      const place = path(digest);
      const text = `${JSON.stringify({ formatVersion: 1, ...publication }, null, 2)}\n`;
      parsePublication(text, place); // What could not be read again is not written.
      try {
        await writeFileAtomic(place, text);
      } catch (error) {
        throw SporeletError.from(error, { operation: "note how it is published in", subject: place });
      }
    },
    async delete(digest) {
      await rm(path(digest), { force: true });
    },
  };
}

function parsePublication(text: string, subject: string): Publication {
  try {
    const { formatVersion, layers, origins } = JSON.parse(text);
    if (formatVersion !== 1) throw new TypeError(`format version ${formatVersion} is not known here`);
    if (!Array.isArray(layers) || layers.length > mostLayers || !layers.every(isLayer)) {
      throw new TypeError("its layers are malformed");
    }
    if (!Array.isArray(origins) || !origins.every((origin) => typeof origin === "string")) {
      throw new TypeError("its origins are malformed");
    }
    return { layers, origins };
  } catch (cause) {
    throw new SporeletError({
      code: "corrupt",
      operation: "read how a snapshot is published in",
      subject,
      reason: cause instanceof TypeError ? cause.message : "the file is not JSON",
      hint: "remove the file; it is made again",
      cause,
    });
  }
}

function isLayer(layer: unknown): layer is PublishedLayer {
  if (typeof layer !== "object" || layer === null) return false;
  const { file, mediaType, digest, sizeBytes, annotations } = layer as Partial<PublishedLayer>;
  return (
    snapshotFiles.some((name) => name === file) &&
    typeof mediaType === "string" &&
    isDigest(digest) &&
    Number.isSafeInteger(sizeBytes) &&
    (sizeBytes ?? -1) >= 0 &&
    typeof annotations === "object" &&
    annotations !== null &&
    Object.values(annotations).every((value) => typeof value === "string")
  );
}
