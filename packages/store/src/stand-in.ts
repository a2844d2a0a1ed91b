import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Digest } from "@sporelet/page-image";
import { isDigest } from "./digest-name.ts";

/**
 * Beside the config, not in it: a config can come from anywhere, and one that claimed to stand in for somebody
 * else's snapshot would be run instead of that.
 */
const fileName = "stands-in-for";

/**
 * Notes in a draft that it stands in for a snapshot: booted from that one's kernel and disk and frozen here,
 * because that one's state cannot be restored on this host. It is kept as long as the other has a name.
 */
export async function markStandIn(draftDirectory: string, original: Digest): Promise<void> {
  await writeFile(join(draftDirectory, fileName), `${original}\n`, { mode: 0o400 });
}

/** The snapshot that the one in this directory stands in for. */
export async function standsInFor(directory: string): Promise<Digest | undefined> {
  const text = await readFile(join(directory, fileName), "utf8").catch(() => "");
  const digest = text.trim();
  return isDigest(digest) ? digest : undefined;
}
