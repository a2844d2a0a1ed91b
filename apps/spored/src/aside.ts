/**
 * Machines that cannot be taken over, but may be worth something to somebody: their record is lost or damaged, or
 * there is a whole state of a suspended machine that no record leads to. Nothing of them is removed; their directories
 * are moved out of the way, to STORE/corrupt/ID.
 */
import { mkdir, readdir, rename } from "node:fs/promises";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import { type Check, syncPath } from "@sporelet/host";
import type { Node } from "./node.ts";

function asideIn({ store }: Pick<Node, "store">): string {
  return path.join(store.root, "corrupt");
}

/** Moves a machine's directory out of the way and says so in the log. @param why what is wrong with it */
export async function keepAside(node: Node, id: string, why: unknown): Promise<void> {
  const directory = node.store.machines.path(id);
  const aside = asideIn(node);
  await mkdir(aside, { recursive: true, mode: 0o700 });
  const taken = new Set(await readdir(aside));
  let name = id;
  for (let n = 2; taken.has(name); n++) name = `${id}-${n}`;
  const target = path.join(aside, name);
  await rename(directory, target);
  await Promise.all([aside, path.dirname(directory)].map(syncPath));
  const { reason } = SporeletError.from(why, { operation: "take over", subject: id });
  const error = new SporeletError({
    ...{ code: "corrupt", operation: "take over", subject: id, reason, cause: why },
    hint: `all that it had is kept in ${target}; remove that directory when nothing in it is needed`,
  });
  node.log.error("machine kept aside", error, { id, directory: target });
}

/** What doctor says of machines that are kept aside; nothing when there are none. */
export async function asideChecks(node: Pick<Node, "store">): Promise<Check[]> {
  const aside = asideIn(node);
  const names = await readdir(aside).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  if (names.length === 0) return [];
  const finding = `not taken over because their records are damaged or lost: ${names.sort().join(", ")}`;
  const remedy = `their files are in ${aside}; spored's log says why; remove what is not needed`;
  return [{ id: "store.corrupt", title: "machines", status: "degraded", finding, remedy }];
}
