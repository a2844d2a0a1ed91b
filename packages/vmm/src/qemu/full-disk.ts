import type { Qmp } from "./qmp.ts";

/** Nothing tells that there is room again. A guest that stands still has time, and asking takes none. */
const retryMs = 500;

/** A guest whose disk image found no room. */
export interface FullDisk {
  /** Whether the guest stands still because it was told to: then it is not let go on. */
  paused: boolean;
}

/**
 * QEMU stops a guest when an image cannot take what it writes (`werror=enospc`, the default): the guest would
 * otherwise take its disk for broken. It is let go on, and QEMU tries the write again, until there is room.
 */
export function goOnWhenThereIsRoom(qmp: Qmp): FullDisk {
  const state: FullDisk = { paused: false };
  let timer: NodeJS.Timeout | undefined;
  const retry = () => {
    timer = undefined;
    // When there is still no room the same event comes again.
    if (!state.paused) qmp.call("cont").catch(() => {}); // The machine has ended.
  };
  qmp.listen(({ event, data }) => {
    if (event !== "BLOCK_IO_ERROR" || data.action !== "stop" || data.nospace !== true) return;
    timer ??= setTimeout(retry, retryMs).unref();
  });
  void qmp.closed.then(() => clearTimeout(timer));
  return state;
}
