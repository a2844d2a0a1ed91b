/**
 * Stores things that nothing needs and collects them, until it is killed: `node collector.ts ROOT`. Before
 * each collection it says the number, after it that it is done.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Digest } from "@sporelet/page-image";
import { openStore } from "../index.ts";
import { addChild, addSnapshot } from "./snapshot.ts";

const store = await openStore({ root: process.argv[2] ?? "" });
const nobody = { inUse: () => [] };
for (let i = 0; ; i++) {
  const content = `${process.pid} ${i}`;
  const parent = await addSnapshot(store, undefined, { content });
  await addChild(store, parent, undefined, { content });
  const named = await addSnapshot(store, `n${i % 3}`, { content: `${content} named` });
  await store.publications.set(parent.digest, { layers: [], origins: [] });
  const blob: Digest = `sha256:${String(i).padStart(64, "0")}`;
  const file = await store.blobs.partial(blob);
  await writeFile(file, `blob ${blob}`);
  await store.blobs.put(file, blob);
  await store.cache.getOrCreate("rootfs", String(i), (into) => writeFile(join(into, "disk"), `disk ${i}`));
  process.stdout.write(`begin ${i}\n`);
  await store.collect(nobody);
  if (i % 2 === 1) await store.discard([named.digest], nobody);
  process.stdout.write(`done ${i}\n`);
}
