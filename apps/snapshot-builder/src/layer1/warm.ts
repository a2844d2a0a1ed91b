/** The last stage: the project brought up in a machine, warmed, and frozen into a snapshot. */
import { join } from "node:path";
import { agentGuest, preheat } from "@sporelet/compose-preheater";
import { cloneFile } from "@sporelet/host";
import type { SnapshotDraft } from "@sporelet/store";
import type { Accelerator, Vmm } from "@sporelet/vmm";
import { type OnBuildEvent, startStep, stepsOfPreheat } from "../events.ts";
import { type Frozen, freeze } from "../freeze.ts";
import type { Layer0 } from "../layer0/build.ts";
import type { Project } from "../project/load.ts";
import { composeCommand } from "../rootfs/content.ts";
import { bootGuest, calling, kernelArguments } from "../vm/guest-machine.ts";
import type { NetworkLease } from "../vm/network.ts";
import { type Recorder, recordWorkingSet } from "../working-set/record.ts";
import { sendProject } from "./project-files.ts";

export interface WarmOptions {
  project: Project;
  vmm: Vmm;
  accelerator: Accelerator;
  layer0: Layer0;
  /** Disk with the images; it is copied. */
  disk: string;
  draft: SnapshotDraft;
  network: () => Promise<NetworkLease>;
  recorder: Recorder | undefined;
  runtimeDirectory: string;
  /** Keeps logs of a build that failed, and says where. */
  keepLogs: (logs: Record<string, string>) => Promise<string>;
  signal: AbortSignal;
  onEvent: OnBuildEvent;
}

export interface Warmed extends Frozen {
  services: string[];
}

/** Fills the draft with the frozen machine's files. */
export async function warmAndFreeze(options: WarmOptions): Promise<Warmed> {
  const { project, layer0, draft, signal, onEvent } = options;
  const { machine, warmup, timeouts } = project.config;
  const disk = join(draft.directory, "disk");
  const boot = startStep("boot", onEvent);
  await cloneFile(options.disk, disk, { signal });
  const network = await options.network();
  await using _network = { [Symbol.asyncDispose]: () => network.release() };
  await using guest = await bootGuest({
    vmm: options.vmm,
    layer0,
    disks: [{ path: disk }],
    shape: { cpus: machine.cpus, memoryBytes: machine.memoryBytes, accelerator: options.accelerator },
    network,
    memory: join(draft.directory, "memory"),
    scratch: draft.directory,
    runtimeDirectory: options.runtimeDirectory,
    hookTimeoutMs: timeouts.hookMs,
    signal,
  });
  boot.progress(0.5, "waiting for dockerd");
  // That service brings a project up on a cold boot. It has to have found none before there is one.
  await guest.serviceReady("compose", signal);
  await calling("copy the project into the guest", () => sendProject(guest.client, project, signal));
  boot.done();

  const { services } = await preheat({
    guest: agentGuest(guest.client),
    project: project.name,
    compose: [composeCommand],
    warmup,
    timeouts,
    signal,
    console: guest.console,
    keepLogs: options.keepLogs,
    onEvent: stepsOfPreheat(onEvent),
  });
  const { hookMs: hookTimeoutMs } = timeouts;
  const frozen = await freeze({ guest, layer0, draft, hookTimeoutMs, signal, onEvent });
  const { recorder, vmm, runtimeDirectory } = options;
  await recordWorkingSet({
    ...{ recorder, vmm, frozen, draft, network, warmup, hookTimeoutMs, runtimeDirectory, signal, onEvent },
    kernelArguments: kernelArguments(layer0, frozen.shape.disks),
    ports: project.config.ports ?? project.compose.ports,
  });
  return { services, ...frozen };
}
