import { readFile } from "node:fs/promises";
import path from "node:path";
import { cloneFile } from "@sporelet/host";
import { openStore, type SnapshotConfig, type SnapshotFile } from "@sporelet/store";

/** What differs in a snapshot that comes from another host. */
export interface Foreign {
  vmm?: Partial<SnapshotConfig["vmm"]>;
  shape?: Partial<SnapshotConfig["shape"]>;
  without?: readonly SnapshotFile[];
  recipe?: unknown;
}

/**
 * Stores a copy of a snapshot as if it had been pulled from another host.
 *
 * @param home of a node; its store is used beside its spored
 */
export async function storeForeign(
  home: string,
  source: string,
  tag: string,
  { vmm, shape, without = [], recipe }: Foreign,
): Promise<string> {
  const store = await openStore({ root: path.join(home, "store") });
  const { config, files, directory } = await store.resolve(source);
  await using draft = await store.newSnapshot();
  const kept = Object.entries(files).filter(([file]) => !without.includes(file as SnapshotFile));
  for (const [file, from] of kept) await cloneFile(from, path.join(draft.directory, file));
  const changed = JSON.parse(await readFile(path.join(directory, "config.json"), "utf8")) as SnapshotConfig;
  Object.assign(changed.vmm, vmm);
  Object.assign(changed.shape, shape);
  if (recipe !== undefined) changed.recipe = recipe;
  changed.source = tag; // Each is another snapshot.
  for (const file of without) delete (changed.files as Partial<SnapshotConfig["files"]>)[file];
  const stored = await draft.adopt(Buffer.from(JSON.stringify(changed)), tag);
  if (stored.config.created !== config.created) throw new Error("the copy was not adopted as it is");
  return stored.digest;
}
