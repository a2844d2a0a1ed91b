import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { SnapshotDescription, Store, StoredSnapshot } from "../index.ts";

/** What a builder would say about a small machine. */
export const description: SnapshotDescription = {
  layer: 1,
  source: "/somewhere/compose.yaml",
  vmm: { driver: "qemu", version: "7.2.0", accelerator: "tcg" },
  shape: {
    cpus: 1,
    memoryBytes: 1024 * 1024,
    accelerator: "tcg",
    disks: 1,
    network: "none",
    mac: "52:54:00:6b:00:02",
  },
  kernel: { release: "6.1.0", arguments: ["quiet"] },
  agent: { protocol: 1, version: "0.1.0" },
  ports: [{ guest: 8080 }],
  services: ["api"],
  recipe: {},
};

/** Stores a snapshot with small files whose content follows from `content`. */
export async function addSnapshot(
  store: Store,
  tag: string,
  { content = tag, disk = true }: { content?: string; disk?: boolean } = {},
): Promise<StoredSnapshot> {
  await using draft = await store.newSnapshot();
  await fillDraft(draft.directory, content, disk);
  return await draft.commit(description, tag);
}

async function fillDraft(directory: string, content: string, disk = true): Promise<void> {
  await using memory = await open(join(directory, "memory"), "wx");
  await memory.truncate(description.shape.memoryBytes);
  await memory.write(`memory of ${content}`, 512 * 1024);
  for (const file of ["vmstate", "kernel", "initramfs", ...(disk ? ["disk"] : [])]) {
    await writeFile(join(directory, file), `${file} of ${content}`);
  }
}
