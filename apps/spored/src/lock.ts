import { watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { locateNode, type NodeRecord, nodeRecordPath } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { runProcess } from "@sporelet/host";
import koffi from "koffi";

// flock(2): the lock belongs to the open file, goes with the process however it ends, and so is never stale.
const LOCK_EX = 2;
const LOCK_NB = 4;
const EWOULDBLOCK = 11;

/** How long a new spored waits for one that is ending (it unmounts) or starting. */
const otherTimeoutMs = 30_000;

/** The lock that makes a spored the only one of its home. */
export type HomeLock = AsyncDisposable;

/**
 * Takes the lock of `home`, or says which spored serves it. Where another process holds the lock and is
 * just starting or ending, waits until it answers or has ended.
 */
export async function acquireHome(home: string): Promise<{ lock: HomeLock } | { other: NodeRecord }> {
  const lockPath = path.join(home, "spored.lock");
  const deadline = AbortSignal.timeout(otherTimeoutMs);
  for (;;) {
    const lock = await tryLock(lockPath);
    if (lock !== undefined) return { lock };
    const other = await otherAnswersOrEnds(home, lockPath, deadline);
    if (other !== undefined) return { other };
  }
}

/** The lock, or undefined when another process holds it. */
export async function tryLock(lockPath: string): Promise<HomeLock | undefined> {
  // Opened close-on-exec, as everything by Node: machines that spored starts do not inherit the lock.
  const file = await open(lockPath, "a", 0o600);
  const flock = koffi.load(null).func("int flock(int fd, int operation)");
  if (flock(file.fd, LOCK_EX | LOCK_NB) === 0) return held(file);
  const errno = koffi.errno();
  await file.close();
  if (errno === EWOULDBLOCK) return undefined;
  throw new SporeletError({
    code: "internal",
    operation: "lock",
    subject: lockPath,
    reason: `flock failed with errno ${errno}`,
  });
}

function held(file: FileHandle): HomeLock {
  return { [Symbol.asyncDispose]: () => file.close() };
}

/** Waits for either event; undefined when the lock was let go. */
async function otherAnswersOrEnds(
  home: string,
  lockPath: string,
  deadline: AbortSignal,
): Promise<NodeRecord | undefined> {
  const done = new AbortController();
  const signal = AbortSignal.any([deadline, done.signal]);
  const record = Promise.withResolvers<NodeRecord>();
  const look = () => {
    const found = locateNode(home);
    if (found !== undefined) record.resolve(found);
  };
  const watcher = watch(home, (_, name) => {
    if (name === path.basename(nodeRecordPath(home))) look();
  });
  look();
  try {
    // flock(1) gets the lock, and lets it go at once, when the holder has ended. A process of its own,
    // because a thread of ours that blocks in flock(2) could not be called back.
    const ended = runProcess(["flock", lockPath, "true"], { operation: "wait for another spored", signal });
    return await Promise.race([record.promise, ended.then(() => undefined)]);
  } catch (error) {
    if (!deadline.aborted) throw error;
    throw new SporeletError({
      code: "unavailable",
      operation: "start spored",
      subject: `for ${home}`,
      reason: `another spored holds ${lockPath} and does not answer`,
      hint: `fuser ${lockPath} names the process; end it`,
    });
  } finally {
    watcher.close();
    done.abort();
  }
}
