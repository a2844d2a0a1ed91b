import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProcess } from "@sporelet/host";
import { describe, it } from "vitest";
import { testLayer0 } from "../conformance/layer0.ts";
import { vmmConformance } from "../conformance.ts";
import { createQemu } from "./driver.ts";

const vmm = createQemu();
const { version } = await vmm.probe();

if (version === undefined) {
  describe("qemu", () => {
    it("passes the conformance suite", (ctx) => ctx.skip("QEMU is not installed on this host"));
  });
} else {
  const guest = await testLayer0();
  const { accelerators, problems } = await vmm.probe({ guest });
  const [accelerator] = accelerators;
  for (const { finding } of problems) {
    it(`qemu ${version.split(" ")[0]} with ${finding.split(":")[0]?.toLowerCase()} passes the conformance suite`, (ctx) =>
      ctx.skip(finding));
  }
  if (accelerator === undefined) throw new Error("QEMU is installed and no accelerator works");

  vmmConformance(`qemu ${version.split(" ")[0]} with ${accelerator}`, async () => {
    const directory = await mkdtemp(join(tmpdir(), "sporelet-test-"));
    const runtimeDirectory = await mkdtemp(join(tmpdir(), "sporelet-test-"));
    return {
      vmm,
      accelerator,
      guest,
      directory,
      runtimeDirectory,
      async resumeElsewhere(spec) {
        const program = new URL("../conformance/elsewhere.ts", import.meta.url).pathname;
        const argv = [process.execPath, program, JSON.stringify(spec)];
        const { stdout } = await runProcess(argv, {
          operation: "resume in another process",
          timeoutMs: 60_000,
        });
        return JSON.parse(stdout);
      },
      async [Symbol.asyncDispose]() {
        await rm(directory, { recursive: true, force: true });
        await rm(runtimeDirectory, { recursive: true, force: true });
      },
    };
  });
}

for (const [driver, program] of [
  ["firecracker", "firecracker"],
  ["cloud-hypervisor", "cloud-hypervisor"],
]) {
  it(`${driver} passes the conformance suite`, async (ctx) => {
    const found = await runProcess(["which", `${program}`], { operation: "look for", ok: [0, 1] });
    ctx.skip(
      `no driver for ${driver} yet; its program is ${found.code === 0 ? found.stdout.trim() : "not installed"}`,
    );
  });
}
