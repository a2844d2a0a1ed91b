import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cloneFile } from "@sporelet/host";
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
  tag: string | undefined,
  { content = tag ?? "untagged", disk = true }: { content?: string; disk?: boolean } = {},
): Promise<StoredSnapshot> {
  await using draft = await store.newSnapshot();
  await fillDraft(draft.directory, content, disk);
  return await draft.commit(description, tag);
}

/** Stores a child: its parent's images with some pages changed, and a vmstate of its own. */
export async function addChild(
  store: Store,
  parent: StoredSnapshot,
  tag: string | undefined,
  { content = tag ?? "untagged", pages = 1 }: { content?: string; pages?: number } = {},
): Promise<StoredSnapshot> {
  await using draft = await store.newSnapshot();
  for (const [file, source] of Object.entries(parent.files)) {
    if (file !== "vmstate") await cloneFile(source, join(draft.directory, file));
  }
  await writeFile(join(draft.directory, "vmstate"), `vmstate of ${content}`);
  await using memory = await open(join(draft.directory, "memory"), "r+");
  for (let page = 0; page < pages; page++) await memory.write(`page of ${content}`, (2 * page + 1) * 4096);
  await memory.sync();
  const layer = parent.config.layer + 1;
  return await draft.commit({ ...description, layer, parent: parent.digest }, tag);
}

async function fillDraft(directory: string, content: string, disk = true): Promise<void> {
  await using memory = await open(join(directory, "memory"), "wx");
  await memory.truncate(description.shape.memoryBytes);
  await memory.write(`memory of ${content}`, 512 * 1024);
  for (const file of ["vmstate", "kernel", "initramfs", ...(disk ? ["disk"] : [])]) {
    await writeFile(join(directory, file), `${file} of ${content}`);
  }
}
