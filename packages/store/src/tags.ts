import { readFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { writeFileAtomic } from "@sporelet/host";
import type { Digest } from "@sporelet/page-image";

/** `name:tag` to digest. */
export type TagTable = ReadonlyMap<string, Digest>;

export interface Tags {
  read(): Promise<TagTable>;
  /** Changes the table in one step; changes made at the same time follow one another. */
  update(change: (tags: Map<string, Digest>) => void): Promise<void>;
}

/** The names of snapshots, all in one small file that is replaced as a whole. */
export function createTags(path: string): Tags {
  let lastUpdate: Promise<void> = Promise.resolve();
  const read = async () => new Map(Object.entries(await readTable(path)));
  return {
    read,
    update(change) {
      const update = lastUpdate.then(async () => {
        const tags = await read();
        change(tags);
        const table = Object.fromEntries([...tags].sort(([a], [b]) => (a < b ? -1 : 1)));
        const text = `${JSON.stringify({ formatVersion: 1, tags: table }, null, 2)}\n`;
        await writeFileAtomic(path, text).catch((error) => {
          throw SporeletError.from(error, { operation: "write the names of snapshots to", subject: path });
        });
      });
      lastUpdate = update.catch(() => {}); // The caller gets the error; the next one begins anew.
      return update;
    },
  };
}

async function readTable(path: string): Promise<Record<string, Digest>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
  try {
    const { tags } = JSON.parse(text) as { tags: Record<string, Digest> };
    if (typeof tags !== "object" || tags === null) throw new TypeError("it has no tags");
    return tags;
  } catch (cause) {
    throw new SporeletError({
      code: "corrupt",
      operation: "read the names of snapshots in",
      subject: path,
      reason: "the file is malformed",
      hint: "move it away; snapshots can be given names again by their digests",
      cause,
    });
  }
}
