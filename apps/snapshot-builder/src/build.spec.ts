import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Probe } from "@sporelet/vmm";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { warmKey } from "./build.ts";
import { imagesDiskKey } from "./layer1/images-disk.ts";
import { loadProject } from "./project/load.ts";
import { rootfsKey } from "./rootfs/build.ts";

const probe: Probe = { driver: "qemu", version: "7.2", accelerators: ["tcg"], problems: [] };
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sporelet-keys-"));
  await project({ compose: "services: { a: { image: 'x:1', volumes: ['./conf:/conf'] } }" });
});
afterEach(() => rm(directory, { recursive: true }));

async function project(files: { compose?: string; sporelet?: string; conf?: string }): Promise<void> {
  if (files.compose !== undefined) await writeFile(join(directory, "compose.yaml"), files.compose);
  if (files.sporelet !== undefined) await writeFile(join(directory, "sporelet.yaml"), files.sporelet);
  if (files.conf !== undefined) await writeFile(join(directory, "conf"), files.conf);
}

/** The keys of all stages, as a build makes them; images stand for themselves. */
async function keys() {
  const loaded = await loadProject(directory);
  const rootfs = rootfsKey("6.1.0");
  const images = imagesDiskKey(
    rootfs,
    loaded.config.machine.diskBytes,
    loaded.images.map(({ name }) => ({ name, key: name })),
  );
  return { rootfs, images, warm: warmKey(images, { key: "layer0" }, loaded, probe) };
}

describe("what a change rebuilds", () => {
  it("of nothing is nothing", async () => {
    expect(await keys()).toEqual(await keys());
  });

  it("of the Compose file, or of a file that it mounts, is only the warm-up", async () => {
    const before = await keys();
    await project({ compose: "services: { a: { image: 'x:1', command: [y], volumes: ['./conf:/conf'] } }" });
    const after = await keys();
    expect(after).toEqual({ ...before, warm: expect.not.stringMatching(before.warm) });
    await project({ conf: "a = 1" });
    expect(await keys()).toEqual({ ...after, warm: expect.not.stringMatching(after.warm) });
  });

  it("of memory or processors is only the warm-up, too", async () => {
    const before = await keys();
    await project({ sporelet: "machine: { cpus: 2, memory: 2GiB }" });
    expect(await keys()).toEqual({ ...before, warm: expect.not.stringMatching(before.warm) });
  });

  it("of the disk's size leaves the root file system alone", async () => {
    const before = await keys();
    await project({ sporelet: "machine: { disk: 8GiB }" });
    const after = await keys();
    expect(after.rootfs).toBe(before.rootfs);
    expect(after.images).not.toBe(before.images);
  });

  it("of an image leaves the root file system alone", async () => {
    const before = await keys();
    await project({ compose: "services: { a: { image: 'x:2' } }" });
    const after = await keys();
    expect(after.rootfs).toBe(before.rootfs);
    expect(after.images).not.toBe(before.images);
  });

  it("of how long to wait is nothing: the result is the same", async () => {
    const before = await keys();
    await project({ sporelet: "timeouts: { up: 9m, healthy: 9m }" });
    expect(await keys()).toEqual(before);
  });

  it("of the accelerator is the machine state", async () => {
    const before = await keys();
    probe.accelerators = ["kvm"];
    const after = await keys().finally(() => {
      probe.accelerators = ["tcg"];
    });
    expect(after).toEqual({ ...before, warm: expect.not.stringMatching(before.warm) });
  });
});
