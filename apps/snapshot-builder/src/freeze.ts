/** Freezes a booted machine for good: its state, memory and disk become the files of a snapshot. */
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { cloneFile, punchZeroPages } from "@sporelet/host";
import type { SnapshotDraft } from "@sporelet/store";
import type { MachineShape } from "@sporelet/vmm";
import { type OnBuildEvent, startStep } from "./events.ts";
import type { Layer0 } from "./layer0/build.ts";
import { calling, type GuestMachine } from "./vm/guest-machine.ts";

export interface FreezeOptions {
  /** Its memory (and disk) are files of the draft already. */
  guest: GuestMachine & { shape: MachineShape };
  layer0: Pick<Layer0, "kernel" | "initramfs">;
  draft: SnapshotDraft;
  hookTimeoutMs: number;
  signal: AbortSignal;
  onEvent: OnBuildEvent;
}

export interface Frozen {
  shape: MachineShape;
  agent: { protocol: number; version: string };
  /** From the pause to the written state. */
  pauseMs: number;
}

/** Hooks have limits of their own; the rest is trimming and dropping caches. */
const quiesceTimeoutMs = 120_000;

export async function freeze({
  guest,
  layer0,
  draft,
  hookTimeoutMs,
  signal,
  onEvent,
}: FreezeOptions): Promise<Frozen> {
  const step = startStep("freeze", onEvent);
  const path = (name: string) => join(draft.directory, name);
  step.progress(0.1, "quiescing the guest");
  const limit = AbortSignal.any([signal, AbortSignal.timeout(quiesceTimeoutMs)]);
  const { error } = await calling("quiesce the guest", () =>
    guest.client.quiesce({ hookTimeoutMs, dropCaches: true, trim: true }, { signal: limit }),
  );
  if (error !== undefined) {
    throw new SporeletError({
      code: "guest_failed",
      operation: "quiesce the guest",
      subject: error.hook || undefined,
      reason: error.message,
      log: error.output || undefined,
    });
  }
  await guest.park(signal);
  step.progress(0.4, "saving the state");
  const start = performance.now();
  await guest.machine.pause();
  await guest.machine.saveState(path("vmstate"), signal);
  const pauseMs = performance.now() - start;
  await guest.machine.stop();
  step.progress(0.5, "turning zero pages into holes");
  const { usedBytes } = await punchZeroPages(path("memory"), signal);
  if (guest.shape.disks > 0) await punchZeroPages(path("disk"), signal);
  await cloneFile(layer0.kernel, path("kernel"), { signal });
  await cloneFile(layer0.initramfs, path("initramfs"), { signal });
  step.done(`${Math.round(usedBytes / 1024 ** 2)} MiB of memory in use`);
  return { shape: guest.shape, agent: guest.agent, pauseMs };
}
