import { mkdir, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Frozen, freeze, meetBooted, meetResumed } from "../conformance/guest.ts";
import { processesWith } from "../conformance/host.ts";
import { testLayer0 } from "../conformance/layer0.ts";
import type { MachineShape, SlotSpec } from "../contract.ts";
import { socketsOf } from "./command-line.ts";
import { createQemu } from "./driver.ts";
import { connectTo } from "./machine.ts";
import { openQmp } from "./qmp.ts";

const vmm = createQemu();
const { version } = await vmm.probe();

describe.skipIf(version === undefined)("a clone's QEMU", () => {
  let directory: string;
  let frozen: Frozen;
  let shape: MachineShape;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "sporelet-test-"));
    const layer0 = await testLayer0();
    const [accelerator = "tcg"] = (await vmm.probe({ guest: layer0 })).accelerators;
    shape = {
      ...{ cpus: 1, memoryBytes: 256 * 2 ** 20, accelerator, disks: 1, network: "none" },
      mac: "52:54:00:6b:00:02",
    };
    const booted = await vmm.boot({
      ...{ ...(await files("booted")), ...layer0, shape, memory: join(directory, "booted-memory") },
    });
    await mkdir(join(directory, "frozen"));
    await using guest = await meetBooted(booted);
    frozen = await freeze(guest, join(directory, "frozen"));
  });
  afterAll(async () => {
    if (directory !== undefined) await rm(directory, { recursive: true });
  });

  const files = async (id: string) => {
    const own = join(directory, id);
    await mkdir(own);
    await using disk = await open(join(own, "disk"), "w");
    await disk.truncate(2 ** 20);
    return { id, directory: own, runtimeDirectory: directory, disks: [{ path: join(own, "disk") }] };
  };
  const prepare = async (id: string, more: Partial<SlotSpec> = {}) => {
    const { memory, vmstate } = frozen;
    return await vmm.prepare({ ...(await files(id)), shape, memory, vmstate, kernelArguments: [], ...more });
  };
  const hugePages = async (pid: number) =>
    /^THP_enabled:\s+(\d)$/m.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1];

  it("does not run without the library that keeps its snapshot whole", async () => {
    // What a QEMU that is linked statically comes to, or a launcher that clears its environment.
    const launcher = ["env", "-u", "LD_PRELOAD"];
    await expect(prepare("bare", { launcher })).rejects.toMatchObject({
      code: "unsupported",
      message: expect.stringContaining("would make holes in the snapshot"),
    });
    expect(await processesWith(join(directory, "bare"))).toEqual([]);
  });

  it("has no huge pages, unlike those who start it", async () => {
    await using slot = await prepare("small");
    expect(await hugePages(slot.pid)).toBe("0");
    expect(await hugePages(process.pid)).toBe("1");
  });

  it("has its memory merged when it is asked for", async (ctx) => {
    const of = (pid: number) => readFile(`/proc/${pid}/ksm_stat`, "utf8").catch(() => "");
    ctx.skip(!(await of(process.pid)).includes("ksm_merge_any"), "this kernel does not tell (Linux 6.15)");
    await using merged = await prepare("merged", { mergeMemory: true });
    await using apart = await prepare("apart");
    expect(await of(merged.pid)).toMatch(/^ksm_merge_any: yes$/m);
    expect(await of(apart.pid)).toMatch(/^ksm_merge_any: no$/m);
    expect(await of(process.pid)).toMatch(/^ksm_merge_any: no$/m);
  });

  it("keeps its disks to their limit from the first instruction on", async () => {
    await using slot = await prepare("limited");
    await using guest = await meetResumed(slot, undefined, { diskBytesPerSecond: 5_000_000 });
    const socket = await connectTo(socketsOf(guest.machine.record).monitor, "ask", "limited");
    const explainEnd = async () =>
      new SporeletError({ code: "unavailable", operation: "ask", reason: "it ended" });
    const qmp = await openQmp(socket, { subject: "limited", timeoutMs: 5_000, explainEnd });
    const [block] = await qmp.call<{ inserted: { bps: number } }[]>("query-block");
    qmp.close();
    expect(block?.inserted.bps).toBe(5_000_000);
    expect(await guest.run("dd if=/dev/vda of=/dev/null bs=4k count=16 2>/dev/null && echo read")).toBe(
      "read",
    );
  });
});
