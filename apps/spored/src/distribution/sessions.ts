import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomic } from "@sporelet/host";
import type { UploadSessions } from "@sporelet/oci";

/** Registries forget uploads that nobody continues; Debian's after a week, others sooner. */
const longestAgeMs = 24 * 3_600_000;

/**
 * Where uploads that were begun go on, kept in files, so that a push that was interrupted continues in another
 * process too. Old ones are removed on the way.
 */
export async function uploadSessions(directory: string): Promise<UploadSessions> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await sweep(directory);
  const place = (key: string) => path.join(directory, createHash("sha256").update(key).digest("hex"));
  return {
    async get(key) {
      try {
        const { key: stored, location } = JSON.parse(await readFile(place(key), "utf8"));
        return stored === key && typeof location === "string" ? location : undefined;
      } catch (error) {
        // Without the session the upload begins anew: nothing is lost by a file that cannot be read.
        if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT")
          return undefined;
        throw error;
      }
    },
    set: (key, location) => writeFileAtomic(place(key), `${JSON.stringify({ key, location })}\n`),
    delete: (key) => rm(place(key), { force: true }),
  };
}

async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const file = path.join(directory, name);
    const found = await stat(file).catch(() => undefined);
    if (found !== undefined && Date.now() - found.mtimeMs > longestAgeMs) await rm(file, { force: true });
  }
}
