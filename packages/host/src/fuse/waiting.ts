import { readFileSync } from "node:fs";

/** Requests that cannot be answered yet. */
export interface WaitingRequests {
  /** @param fail answers the request with an error; called at most once, and not after `remove`. */
  add(unique: number, pid: number, fail: () => void): void;
  /** @returns false when it does not wait any more: it was answered because its thread is to die. */
  remove(unique: number): boolean;
  has(unique: number): boolean;
  /** The kernel says that a signal has come for the thread of a request. */
  interrupted(unique: number): void;
  close(): void;
}

const checkMs = 250;

/**
 * Sees to it that nobody who waits for a request is kept from being killed.
 *
 * A thread that waits for an answer cannot be killed before it comes (fuse: request_wait_answer). The kernel tells
 * of the first signal only, and that may be a harmless one (a VMM kicks its threads by signals), which must not fail
 * a page fault: that would end the VMM by SIGBUS. So while anything waits, it is looked at now and then whether a
 * SIGKILL is waiting too; there is no event for it.
 */
export function createWaitingRequests(): WaitingRequests {
  const waiting = new Map<number, { pid: number; fail: () => void }>();
  let watch: NodeJS.Timeout | undefined;

  const look = () => {
    const dying = new Map<number, boolean>();
    for (const [unique, { pid, fail }] of [...waiting]) {
      if (!dying.has(pid)) dying.set(pid, isBeingKilled(pid));
      if (dying.get(pid) && waiting.delete(unique)) fail();
    }
    if (waiting.size > 0) return;
    clearInterval(watch);
    watch = undefined;
  };

  return {
    add(unique, pid, fail) {
      waiting.set(unique, { pid, fail });
      watch ??= setInterval(look, checkMs);
    },
    remove: (unique) => waiting.delete(unique),
    has: (unique) => waiting.has(unique),
    interrupted(unique) {
      const request = waiting.get(unique);
      if (request !== undefined && isBeingKilled(request.pid) && waiting.delete(unique)) request.fail();
    },
    close() {
      clearInterval(watch);
      waiting.clear();
    },
  };
}

/** Whether a thread, or its process, has a SIGKILL waiting for it, or is gone (proc(5), status). */
function isBeingKilled(thread: number): boolean {
  if (thread === 0) return false;
  try {
    const status = readFileSync(`/proc/${thread}/status`, "latin1");
    const sigkill = 1n << 8n; // Signal n is bit n - 1.
    return [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)].some(
      ([, mask]) => (BigInt(`0x${mask}`) & sigkill) !== 0n,
    );
  } catch {
    return true;
  }
}
