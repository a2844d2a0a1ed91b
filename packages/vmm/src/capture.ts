/**
 * Memory of a paused machine as a file: a frozen state's `memory`.
 *
 * Done in two steps, so that what takes long happens while the guest still runs and the pause costs as much
 * as the guest has changed, not as much as it has memory:
 *
 *   prepareCapture      the file is made from what is on disk already
 *   (pause)
 *   capture.finish()    the changed pages are put into it
 *   (unpause)
 */
import { link, open, rm, stat } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { cloneFile, copyProcessMemory, privatePageRuns } from "@sporelet/host";
import type { Machine } from "./contract.ts";

export interface CaptureOptions {
  machine: Machine;
  /** File to be created, on the file system of the machine's memory file where that can reflink. */
  target: string;
  /**
   * The machine will be stopped and never run again: a booted machine's own memory file is taken (a hard
   * link) instead of a copy. Default: false.
   */
  last?: boolean;
  signal?: AbortSignal | undefined;
}

/** Disposing of one that was not finished removes its file. */
export interface MemoryCapture extends AsyncDisposable {
  /**
   * Completes the file; the machine has to be paused and stay so until this resolves. Not synced.
   * @returns how much was copied while the guest waited.
   */
  finish(signal?: AbortSignal): Promise<{ copiedBytes: number }>;
}

/** The first step; the machine may run. */
export async function prepareCapture(options: CaptureOptions): Promise<MemoryCapture> {
  const { machine, target, last = false, signal } = options;
  const context = { operation: "capture the memory of", subject: machine.id };
  const source = machine.record.memory;
  let finished = false;
  const discard = async () => {
    if (!finished) await rm(target, { force: true });
  };
  const step = async <T>(action: () => Promise<T>): Promise<T> => {
    try {
      signal?.throwIfAborted();
      return await action();
    } catch (error) {
      // A file that was there before is not ours to remove.
      if ((error as { code?: string }).code !== "already_exists") await discard();
      throw SporeletError.from(error, context);
    }
  };
  // A reflink has to write the file's dirty pages first: most of them now rather than in the pause.
  if (machine.origin === "boot" && !last) await step(() => writeBack(source));
  if (machine.origin === "resume") await step(() => cloneFile(source, target, { signal }));

  return {
    async finish(finishSignal = signal) {
      const copiedBytes = await step(async () => {
        if (machine.origin === "resume") {
          const runs = await privatePageRuns(machine.pid, await machine.memoryMap());
          return await copyProcessMemory(machine.pid, runs, target, finishSignal);
        }
        if (last) {
          await link(source, target);
          return 0;
        }
        const how = await cloneFile(source, target, { signal: finishSignal });
        return how === "reflink" ? 0 : (await stat(target)).blocks * 512;
      });
      finished = true;
      return { copiedBytes };
    },
    [Symbol.asyncDispose]: discard,
  };
}

/** Both steps for a machine that is paused already. */
export async function captureMemory(options: CaptureOptions): Promise<{ copiedBytes: number }> {
  await using capture = await prepareCapture(options);
  return await capture.finish();
}

async function writeBack(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.datasync();
}
