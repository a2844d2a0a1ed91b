import { hostArchitecture, hostCpu, tscKhz } from "@sporelet/host";
import type { Accelerator, DriverName, Probe } from "./contract.ts";

/** Where a frozen state was written, as far as the state depends on it. Part of a snapshot's config. */
export interface StateOrigin {
  driver: DriverName;
  version: string;
  accelerator: Accelerator;
  /** Of the host, which is the guest's: amd64, arm64. */
  architecture: string;
  machineType?: string;
  cpuModel?: string;
  /** With hardware virtualisation, where the guest's CPU is the host's: who made it. */
  cpuVendor?: string;
  /** With hardware virtualisation: what a guest may have made use of, by the names of /proc/cpuinfo. */
  cpuFeatures?: string[];
  /** In software: the rate of the host's time stamp counter, which the guest's clock runs off. */
  tscKhz?: number;
}

/** What states depend on that are written by machines booted here and now. */
export async function stateOrigin(probe: Probe, accelerator: Accelerator): Promise<StateOrigin> {
  const { driver, version = "", machineType } = probe;
  const cpuModel = probe.cpuModels?.[accelerator];
  return {
    ...{ driver, version, accelerator, architecture: hostArchitecture() },
    ...(machineType !== undefined && { machineType }),
    ...(cpuModel !== undefined && { cpuModel }),
    ...(accelerator === "kvm" ? await hardware() : await software()),
  };
}

async function hardware(): Promise<Partial<StateOrigin>> {
  const { vendor, features } = await hostCpu();
  return { cpuVendor: vendor, cpuFeatures: features };
}

async function software(): Promise<Partial<StateOrigin>> {
  const khz = await tscKhz();
  return khz === undefined ? {} : { tscKhz: khz };
}
