import type { Check } from "./check.ts";
import { kernelChecks } from "./kernel.ts";
import { programChecks } from "./programs.ts";
import { storageChecks } from "./storage.ts";

/**
 * What this host can do for Sporelet, and for what is missing the command that mends it. Quick, starts
 * nothing, and leaves nothing behind. The VMMs report on themselves (`Vmm.probe`).
 */
export async function hostChecks(options: { home: string }): Promise<Check[]> {
  const groups = await Promise.all([storageChecks(options.home), kernelChecks(), programChecks()]);
  return groups.flat();
}
