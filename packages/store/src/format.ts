import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { writeFileAtomic } from "@sporelet/host";
import type { Layout } from "./layout.ts";

/**
 * Looks at the store's format version, or writes it into a new store.
 *
 * @throws SporeletError `incompatible` when a later version of Sporelet made it, `corrupt`.
 */
export async function requireFormat(layout: Layout): Promise<void> {
  const path = join(layout.root, "store.json");
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  if (text === undefined) return writeFileAtomic(path, '{ "formatVersion": 1 }\n');
  const version = /"formatVersion":\s*(\d+)/.exec(text)?.[1];
  if (version === "1") return;
  throw new SporeletError({
    code: version === undefined ? "corrupt" : "incompatible",
    operation: "open the store",
    subject: layout.root,
    reason:
      version === undefined
        ? "its store.json is malformed"
        : `its format version ${version} is not known here`,
    hint: version === undefined ? undefined : "upgrade Sporelet, or use another SPORELET_HOME",
  });
}
