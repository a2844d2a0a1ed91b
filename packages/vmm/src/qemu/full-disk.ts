import type { Qmp } from "./qmp.ts";

/** Nothing tells that there is room again. A guest that stands still has time, and asking takes none. */
const retryMs = 500;

/** A guest whose disk image found no room. */
export interface FullDisk {
  /** Whether the guest stands still because it was told to: then it is not let go on. */
  paused: boolean;
  /** Calls `listener` whenever QEMU stops the guest for it; returns how to stop that. */
  listen(listener: () => void): () => void;
}

/**
 * QEMU stops a guest when an image cannot take what it writes (`werror=enospc`, the default): the guest would
 * otherwise take its disk for broken. It is let go on, and QEMU tries the write again, until there is room.
 */
export function goOnWhenThereIsRoom(qmp: Qmp): FullDisk {
  const listen = (listener: () => void) =>
    qmp.listen(({ event, data }) => {
      if (event === "BLOCK_IO_ERROR" && data.action === "stop" && data.nospace === true) listener();
    });
  const state: FullDisk = { paused: false, listen };
  let timer: NodeJS.Timeout | undefined;
  const retry = () => {
    timer = undefined;
    if (state.paused) return; // Going on after that tries the write again too.
    // Only a guest that was stopped has its writes tried again, and a `cont` that comes between the error and the
    // stop that follows from it cancels that stop (qemu: softmmu/cpus.c, vm_prepare_start): the write would be
    // forgotten. When there is still no room the same event comes again.
    const ended = () => {}; // The machine has ended.
    qmp.call("stop").catch(ended);
    qmp.call("cont").catch(ended);
  };
  listen(() => {
    timer ??= setTimeout(retry, retryMs).unref();
  });
  void qmp.closed.then(() => clearTimeout(timer));
  return state;
}
