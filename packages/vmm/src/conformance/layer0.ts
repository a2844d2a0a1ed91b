import { mkdir } from "node:fs/promises";
import { openStore } from "@sporelet/store";

/** Tests build Layer 0 once and keep it, as `make test` does with everything it builds. */
const home = process.env.SPORELET_TEST_HOME ?? new URL("../../../../out/test-home", import.meta.url).pathname;

export interface TestGuest {
  kernel: string;
  initramfs: string;
  kernelArguments: string[];
}

/**
 * Kernel and initramfs for tests of drivers. The builder is loaded at run time and by path: it depends on
 * this package, not the other way round.
 */
export async function testLayer0(): Promise<TestGuest> {
  const builder = new URL("../../../../apps/snapshot-builder/src/layer0/build.ts", import.meta.url).href;
  const { buildLayer0 } = (await import(builder)) as {
    buildLayer0(o: { store: unknown }): Promise<{ kernel: string; initramfs: string; arguments: string[] }>;
  };
  const root = `${home}/layer0`;
  await mkdir(root, { recursive: true });
  const {
    kernel,
    initramfs,
    arguments: kernelArguments,
  } = await buildLayer0({ store: await openStore({ root }) });
  return { kernel, initramfs, kernelArguments };
}
