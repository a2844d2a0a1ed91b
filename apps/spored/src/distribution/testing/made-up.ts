import { randomBytes } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import path from "node:path";
import { cloneFile } from "@sporelet/host";
import { openStore, type StoredSnapshot } from "@sporelet/store";
import { exampleConfig } from "../../testing/gate-host.ts";

const mebibyte = 1024 * 1024;
const imageBytes = { memory: 32 * mebibyte, disk: 16 * mebibyte };

/** What a made-up snapshot holds. */
export interface MadeUp {
  /** What it is a child of, by a name in the same store. Default: nothing. */
  parent?: string;
  /** Bytes of memory that are its own, and do not compress. Default: 1 MiB. */
  ownBytes?: number;
  /** Where in memory they begin. Default: 0. */
  offset?: number;
  /** What it writes to the start of its disk. Default: a page of random bytes. */
  disk?: Buffer;
  /** Text in its memory, at the end. Default: none. */
  text?: string;
}

/**
 * Stores something that travels as a snapshot does, and that no machine can be started from: it is there at once.
 *
 * @param home of a node; its store is used beside its spored
 */
export async function storeMadeUp(
  home: string,
  tag: string,
  { parent, ownBytes = mebibyte, offset = 0, disk = randomBytes(4096), text }: MadeUp = {},
): Promise<StoredSnapshot> {
  const store = await openStore({ root: path.join(home, "store") });
  const base = parent === undefined ? undefined : await store.resolve(parent);
  await using draft = await store.newSnapshot();
  const at = (file: string) => path.join(draft.directory, file);
  const image = async (file: "memory" | "disk", pieces: { data: Buffer; offset: number }[]) => {
    const origin = base?.files[file];
    if (origin !== undefined) await cloneFile(origin, at(file), { mode: 0o600 });
    await using handle = await open(at(file), origin === undefined ? "wx" : "r+");
    await handle.truncate(imageBytes[file]);
    for (const piece of pieces) await handle.write(piece.data, 0, piece.data.length, piece.offset);
  };
  await image("memory", [
    { data: randomBytes(ownBytes), offset },
    ...(text === undefined ? [] : [{ data: Buffer.from(text), offset: imageBytes.memory - 4096 }]),
  ]);
  await image("disk", [{ data: disk, offset: 0 }]);
  await writeFile(at("vmstate"), randomBytes(20_000));
  for (const file of ["kernel", "initramfs"]) await writeFile(at(file), `the ${file} of all of them`);
  const { files: _, formatVersion: __, created: ___, ...config } = exampleConfig;
  const layer = base === undefined ? 0 : base.config.layer + 1;
  const lineage = base === undefined ? {} : { parent: base.digest };
  return await draft.commit({ ...config, layer, ...lineage, source: tag }, tag);
}
