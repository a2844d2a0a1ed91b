import type { NetworkBackend } from "@sporelet/vmm";

/** A network for one machine that is being built; whoever calls the builder makes it. */
export interface NetworkLease {
  backend: NetworkBackend;
  guest: { mac: string; address: string; gateway: string; dns: string[] };
  release(): Promise<void>;
}
