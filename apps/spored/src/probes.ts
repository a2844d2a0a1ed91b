import { stat } from "node:fs/promises";
import path from "node:path";
import type { Accelerator, Probe, Vmm } from "@sporelet/vmm";

/** Kernel and initramfs with which an accelerator can be tried. */
interface ProbeGuest {
  kernel: string;
  initramfs: string;
}

/** What the VMM can do on this host, asked once and then remembered until its program changes. */
export interface Probes {
  /**
   * @param need an accelerator that is of interest: it is tried with `guest` when it is not known to work,
   *   if that has a kernel
   */
  get(need?: { accelerator: Accelerator; guest: Partial<ProbeGuest> }): Promise<Probe>;
  /** All that works here, each accelerator tried with `guest`. */
  best(guest: ProbeGuest): Promise<Probe>;
}

export function createProbes(vmm: Vmm, cacheDirectory: string): Probes {
  let known: { probe: Promise<Probe>; stamp: Promise<string> } | undefined;
  let tried: { probe: Promise<Probe>; kernel: string } | undefined;

  async function plain(): Promise<Probe> {
    if (known !== undefined && (await known.stamp) !== (await stampOf(await known.probe))) {
      known = undefined; // Another VMM was installed meanwhile.
      tried = undefined;
    }
    if (known === undefined) {
      const probe = vmm.probe({ cacheDirectory });
      known = { probe, stamp: probe.then(stampOf) };
      known.stamp.catch(() => {
        known = undefined;
      });
    }
    return await known.probe;
  }

  async function best({ kernel, initramfs }: ProbeGuest): Promise<Probe> {
    await plain();
    if (tried?.kernel !== kernel) {
      tried = { kernel, probe: vmm.probe({ guest: { kernel, initramfs }, cacheDirectory }) };
      tried.probe.catch(() => {
        tried = undefined;
      });
    }
    return await tried.probe;
  }

  return {
    best,
    async get(need) {
      const probe = await plain();
      if (need === undefined || probe.version === undefined) return probe;
      const { kernel, initramfs } = need.guest;
      if (probe.accelerators.includes(need.accelerator) || !kernel || !initramfs) return probe;
      return await best({ kernel, initramfs });
    },
  };
}

/** Changes when the program is replaced. */
async function stampOf({ binary }: Probe): Promise<string> {
  if (binary === undefined || !path.isAbsolute(binary)) return "";
  const { mtimeMs, size, ino } = await stat(binary).catch(() => ({ mtimeMs: 0, size: 0, ino: 0 }));
  return `${ino} ${size} ${mtimeMs}`;
}
