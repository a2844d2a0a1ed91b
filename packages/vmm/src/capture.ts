/**
 * Memory of a paused machine as a file: a frozen state's `memory`.
 *
 * Done in three steps, so that what takes long happens while the guest runs, and the pause costs as much as the
 * guest has changed, not as much as it has memory:
 *
 *   prepareCapture        the file is made from what is on disk already, and memory for the changed pages
 *   (pause)
 *   capture.take()        the changed pages are copied out of the process
 *   (unpause)
 *   capture.journal()     where the file is not to be synced at once: they are put into another one, in one stretch
 *   capture.complete()    those of them that differ are put into the file
 */
import { link, open, rm, stat } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import {
  cloneFile,
  createMemorySpool,
  type Extent,
  type MemorySpool,
  openOverlay,
  privatePageRuns,
} from "@sporelet/host";
import { changedPages } from "./changed-pages.ts";
import type { Machine } from "./contract.ts";
import { writePageJournal } from "./page-journal.ts";

export interface CaptureOptions {
  machine: Machine;
  /** File to be created, on the file system of the machine's memory file where that can reflink. */
  target: string;
  /**
   * File with the content of the frozen memory that the machine was resumed from. Default: the very file that
   * it maps.
   */
  base?: string | undefined;
  /**
   * The machine will be stopped and never run again: a booted machine's own memory file is taken (a hard
   * link) instead of a copy. Default: false.
   */
  last?: boolean;
  signal?: AbortSignal | undefined;
}

/** Disposing of one that was not completed removes its file. */
export interface MemoryCapture extends AsyncDisposable {
  /** What the file may take on the disk beyond the base: what the guest has made its own so far, and some more. */
  readonly expectedBytes: number;
  /**
   * Takes the memory as it is; the machine has to be paused and stay so until this resolves.
   * @returns how much was copied while the guest waited.
   */
  take(signal?: AbortSignal): Promise<{ copiedBytes: number }>;
  /**
   * Writes what was taken to a journal (page-journal.ts), not synced, which completes the file after the host went
   * down. Before `complete`, if at all.
   *
   * @param path of the journal
   * @returns false for a booted machine: there is none
   */
  journal(path: string, signal?: AbortSignal): Promise<boolean>;
  /**
   * Completes the file, not synced; the machine may run again.
   * @returns the stretches of pages in which it differs from the base, in order; undefined for a booted machine,
   *   which has none.
   */
  complete(signal?: AbortSignal): Promise<{ changed: Extent[] | undefined }>;
}

/** The first step; the machine may run. */
export async function prepareCapture(options: CaptureOptions): Promise<MemoryCapture> {
  const { machine, target, signal } = options;
  const steps = machine.origin === "resume" ? captureClone(options) : captureBooted(options);
  let completed = false;
  const discard = async () => {
    steps.release();
    if (!completed) await rm(target, { force: true });
  };
  const step = async <T>(action: () => Promise<T>, stepSignal = signal): Promise<T> => {
    try {
      stepSignal?.throwIfAborted();
      return await action();
    } catch (error) {
      // A file that was there before is not ours to remove.
      if ((error as { code?: string }).code !== "already_exists") await discard();
      throw SporeletError.from(error, { operation: "capture the memory of", subject: machine.id });
    }
  };
  const expectedBytes = await step(() => steps.prepare());
  return {
    expectedBytes,
    take: (stepSignal) => step(() => steps.take(stepSignal ?? signal), stepSignal),
    journal: (path, stepSignal) => step(() => steps.journal(path), stepSignal),
    async complete(stepSignal) {
      const result = await step(() => steps.complete(stepSignal ?? signal), stepSignal);
      completed = true;
      steps.release();
      return result;
    },
    [Symbol.asyncDispose]: discard,
  };
}

/** All steps for a machine that is paused already. */
export async function captureMemory(options: CaptureOptions): Promise<{ copiedBytes: number }> {
  await using capture = await prepareCapture(options);
  const taken = await capture.take();
  await capture.complete();
  return taken;
}

interface Steps {
  /** @returns expected bytes */
  prepare(): Promise<number>;
  take(signal?: AbortSignal): Promise<{ copiedBytes: number }>;
  journal(path: string): Promise<boolean>;
  complete(signal?: AbortSignal): Promise<{ changed: Extent[] | undefined }>;
  release(): void;
}

/** A clone's memory is a private mapping of the base: what it changed is its own pages. */
function captureClone({ machine, target, base = machine.record.memory, signal }: CaptureOptions): Steps {
  let spool: MemorySpool | undefined;
  let zeroed: Extent[] = [];
  const find = async () =>
    changedPages(await machine.memoryMap(), (regions) => privatePageRuns(machine.pid, regions));
  return {
    async prepare() {
      await cloneFile(base, target, { signal });
      const { held } = await find();
      const bytes = held.reduce((sum, run) => sum + run.bytes, 0);
      const expectedBytes = bytes + bytes / 8 + slackBytes;
      spool = await createMemorySpool({ expectedBytes, overflow: `${target}.spool` });
      return expectedBytes;
    },
    async take(taking) {
      const { held, zero } = await find();
      zeroed = zero;
      return { copiedBytes: (await spool?.take(machine.pid, held, taking)) ?? 0 };
    },
    async journal(path) {
      await writePageJournal(path, spool?.pieces() ?? [], zeroed);
      return true;
    },
    async complete(completing) {
      await using overlay = await openOverlay(target, base);
      const changed: Extent[] = [];
      for (const pieces of spool?.pieces() ?? []) {
        completing?.throwIfAborted();
        changed.push(...(await overlay.put(pieces)));
      }
      for (const { offset, length } of zeroed) changed.push(...(await overlay.clear(offset, length)));
      return { changed: changed.sort((a, b) => a.offset - b.offset) };
    },
    release: () => spool?.[Symbol.dispose](),
  };
}

/** What a guest dirties between the look at its pages before the pause and the pause. */
const slackBytes = 8 * 1024 * 1024;

/** A booted machine's memory is a file already. */
function captureBooted({ machine, target, last = false, signal }: CaptureOptions): Steps {
  const source = machine.record.memory;
  return {
    async prepare() {
      // A reflink has to write the file's dirty pages first: most of them now rather than in the pause.
      if (!last) await writeBack(source);
      return 0;
    },
    async take(taking) {
      if (last) {
        await link(source, target);
        return { copiedBytes: 0 };
      }
      const how = await cloneFile(source, target, { signal: taking ?? signal });
      return { copiedBytes: how === "reflink" ? 0 : (await stat(target)).blocks * 512 };
    },
    journal: async () => false,
    complete: async () => ({ changed: undefined }),
    release() {},
  };
}

async function writeBack(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.datasync();
}
