import { randomBytes } from "node:crypto";
import { mkdir, open, readFile } from "node:fs/promises";
import path from "node:path";
import { agentProtocol } from "@sporelet/api";
import { cloneFile, punchZeroPages } from "@sporelet/host";
import type { Store, StoredSnapshot } from "@sporelet/store";
import { type MachineShape, stateOrigin, type Vmm } from "@sporelet/vmm";
import { freeze, meetBooted } from "../../../../../packages/vmm/src/conformance/guest.ts";
import { testLayer0 } from "../../../../../packages/vmm/src/conformance/layer0.ts";

const diskBytes = 10 * 1024 * 1024;

/** Boots Layer 0 with a disk of data and some of it in memory, and stores it frozen. */
export async function storeFrozenGuest(
  { store, vmm, runtimeDirectory }: { store: Store; vmm: Vmm; runtimeDirectory: string },
  tag: string,
): Promise<StoredSnapshot> {
  const guest = await testLayer0();
  const probe = await vmm.probe({ guest });
  const accelerator = probe.accelerators[0] ?? "tcg";
  const shape: MachineShape = {
    ...{ cpus: 1, memoryBytes: 256 * 1024 * 1024, accelerator, disks: 1 },
    ...{ network: "none", mac: "52:54:00:6b:00:02" },
  };
  await using draft = await store.newSnapshot();
  const at = (file: string) => path.join(draft.directory, file);
  const scratch = at("scratch");
  await mkdir(scratch);
  const disk = path.join(scratch, "disk");
  await writeDisk(disk);
  const spec = {
    ...{ id: "frozen-guest", directory: scratch, runtimeDirectory, shape },
    ...{ memory: path.join(scratch, "memory"), disks: [{ path: disk }], ...guest },
  };
  await using machine = await vmm.boot(spec);
  const met = await meetBooted(machine);
  await met.run("mkdir -p /data && dd if=/dev/urandom of=/data/blob bs=1M count=6 2>/dev/null");
  await met.run(
    "md5sum /data/blob > /data/sum; md5sum < /dev/vda > /data/disk-sum; echo 1 > /proc/sys/vm/drop_caches",
  );
  await freeze(met, draft.directory);
  await machine.stop();
  await punchZeroPages(at("memory"));
  for (const file of ["kernel", "initramfs"] as const) await cloneFile(guest[file], at(file));
  return await draft.commit(
    {
      ...{ layer: 0, source: "a test", shape, ports: [], services: [], recipe: null },
      vmm: await stateOrigin(probe, accelerator),
      kernel: { release: "test", arguments: guest.kernelArguments },
      agent: { protocol: agentProtocol, version: "test" },
    },
    tag,
  );
}

/** Half of it data that does not compress, half of it holes. */
async function writeDisk(file: string): Promise<void> {
  await using handle = await open(file, "wx");
  await handle.truncate(diskBytes);
  for (let at = 0; at < diskBytes; at += 2 * 1024 * 1024)
    await handle.write(randomBytes(1024 * 1024), 0, 1024 * 1024, at);
}

export async function configOf(snapshot: StoredSnapshot): Promise<Buffer> {
  return await readFile(path.join(snapshot.directory, "config.json"));
}
