import { mkdir, open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { lockFile } from "../syscalls.ts";

const directory = "/run/sporelet";
/** Changes take some tens of milliseconds each. */
const waitMs = 60_000;

let last: Promise<unknown> = Promise.resolve();

/**
 * Changes to the host's own network are made by one process at a time, whichever SPORELET_HOME it serves:
 * which links are free and whether the rules are still needed would otherwise be out of date when it matters.
 */
export function withNetworkLock<T>(action: () => Promise<T>): Promise<T> {
  // Within the process they queue here: each wait for the file takes one of libuv's four threads, and the
  // holder of the lock needs some too.
  const turn = last.then(() => locked(action));
  last = turn.catch(() => {});
  return turn;
}

async function locked<T>(action: () => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await using handle = await open(`${directory}/network.lock`, "a", 0o600);
  const giveUp = new AbortController();
  const tooLong = delay(waitMs, undefined, { signal: giveUp.signal }).then(() => {
    throw new SporeletError({
      code: "unavailable",
      operation: "change the host's network",
      reason: "another process has been changing it for a minute",
      hint: `see which one holds ${directory}/network.lock: fuser -v ${directory}/network.lock`,
    });
  });
  tooLong.catch(() => {}); // Aborted below, when the lock was quicker.
  try {
    await Promise.race([lockFile(handle.fd), tooLong]);
  } finally {
    giveUp.abort();
  }
  return await action();
}
