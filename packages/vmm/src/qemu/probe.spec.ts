import { chmod, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { expect, it } from "vitest";
import { createQemu } from "./driver.ts";

/** A program that answers as a QEMU of that version does, and cannot run anything. */
async function fakeQemu(directory: string, version: string): Promise<string> {
  const path = join(directory, "qemu");
  const accelerators = "Accelerators supported in QEMU binary:\\ntcg\\n";
  const script = `#!/bin/sh
case $1 in
  --version) echo "QEMU emulator version ${version}" ;;
  -accel) printf "${accelerators}" ;;
  *) echo "qemu: no machine here" >&2; exit 1 ;;
esac
`;
  await writeFile(path, script);
  await chmod(path, 0o755);
  return path;
}

it("says how to get a QEMU that is missing", async () => {
  expect(await createQemu({ binary: "/nowhere/qemu" }).probe()).toEqual({
    driver: "qemu",
    accelerators: [],
    problems: [{ finding: "/nowhere/qemu is not installed", remedy: "apt-get install -y qemu-system-x86" }],
  });
});

it("refuses a QEMU that is too old", async () => {
  await using directory = await temporaryDirectory();
  const { accelerators, problems, version } = await createQemu({
    binary: await fakeQemu(directory.path, "6.2.0"),
  }).probe();
  expect({ accelerators, version }).toEqual({ accelerators: [] });
  expect(problems[0]?.finding).toBe("QEMU 6.2.0 is too old: 7.0 is needed");
});

it("reports an accelerator that does not run a guest, and tries software emulation again the next time", async () => {
  await using directory = await temporaryDirectory();
  const vmm = createQemu({ binary: await fakeQemu(directory.path, "9.9.9") });
  const cacheDirectory = directory.path;
  const first = await vmm.probe({ cacheDirectory, guest: { kernel: "/k", initramfs: "/i" } });
  expect(first).toMatchObject({ version: expect.stringMatching(/^9\.9\.9 machine \d+$/), accelerators: [] });
  expect(first.problems).toContainEqual({ finding: "TCG: QEMU ended with exit code 1" });
  // Nothing but an overloaded host makes it fail: that is not remembered, and nothing is left behind.
  expect(await vmm.probe({ cacheDirectory })).toMatchObject({ accelerators: ["tcg"] });
  expect(await readdir(directory.path)).toEqual(["qemu"]);
});

it("says what went wrong when a machine's program is missing or fails, and takes its memory file away", async () => {
  await using directory = await temporaryDirectory();
  const spec = {
    id: "m1",
    shape: { cpus: 1, memoryBytes: 64 << 20, accelerator: "tcg", disks: 0, network: "none", mac: "" },
    ...{ directory: directory.path, runtimeDirectory: directory.path, disks: [], kernelArguments: [] },
    ...{ kernel: "/k", initramfs: "/i", memory: join(directory.path, "memory") },
  } as const;
  const boot = (binary: string) => createQemu({ binary }).boot({ ...spec, disks: [], kernelArguments: [] });
  await expect(boot("/nowhere/qemu")).rejects.toMatchObject({
    code: "unsupported",
    hint: expect.stringMatching(/apt-get/),
  });
  const failing = await fakeQemu(directory.path, "9.9.9");
  await expect(boot(failing)).rejects.toMatchObject({ code: "unavailable", log: "qemu: no machine here" });
  expect(await readdir(directory.path)).toEqual(expect.not.arrayContaining(["memory", "m1.qmp", "m1.agent"]));
});
