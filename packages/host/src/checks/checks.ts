import { join } from "node:path";
import type { Check } from "./check.ts";
import { kernelChecks } from "./kernel.ts";
import { programChecks } from "./programs.ts";
import { storageChecks } from "./storage.ts";

export interface HostCheckOptions {
  /** SPORELET_HOME; need not exist. */
  home: string;
  /** The store's directory. Default: HOME/store. */
  store?: string;
}

/**
 * What this host can do for Sporelet, and for what is missing the command that mends it. Quick, starts
 * nothing, and leaves nothing behind. The VMMs report on themselves (`Vmm.probe`).
 */
export async function hostChecks(options: HostCheckOptions): Promise<Check[]> {
  const { home, store = join(home, "store") } = options;
  const groups = await Promise.all([storageChecks(store), kernelChecks(), programChecks()]);
  return groups.flat();
}
