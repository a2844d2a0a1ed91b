import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { lockFile } from "./syscalls.ts";

/** Changes to what the host has one of take some tens of milliseconds each. */
const waitMs = 60_000;

/** Runs changes one at a time, on the whole host. */
export type HostLock = <T>(action: () => Promise<T>) => Promise<T>;

/**
 * Lets one process at a time change something that the host has one of, whichever SPORELET_HOME it serves.
 *
 * @param file made when it is not there; its content means nothing
 * @param operation what is done under the lock, for error messages: an infinitive without "to"
 */
export function hostLock(file: string, operation: string): HostLock {
  let last: Promise<unknown> = Promise.resolve();
  return (action) => {
    // Within the process they queue here: each wait for the file takes one of libuv's four threads, and the
    // holder of the lock needs some too.
    const turn = last.then(() => locked(file, operation, action));
    last = turn.catch(() => {});
    return turn;
  };
}

async function locked<T>(file: string, operation: string, action: () => Promise<T>): Promise<T> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  await using handle = await open(file, "a", 0o600);
  const giveUp = new AbortController();
  const tooLong = delay(waitMs, undefined, { signal: giveUp.signal }).then(() => {
    throw new SporeletError({
      code: "unavailable",
      operation,
      reason: "another process has been at it for a minute",
      hint: `see which one holds ${file}: fuser -v ${file}`,
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
