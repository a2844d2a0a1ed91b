import type { Volume } from "@sporelet/host";
import type { Log } from "./log.ts";

/** What was freed in the store's image is given back to the host when it is so much. */
const worthwhileBytes = 64 * 2 ** 20;
const everyMs = 60_000;

/** Looks every minute, and at the end; `mountImage` says why not at once. */
export function keepTrimmed(volume: Pick<Volume, "spareBytes" | "trim">, log: Log): AsyncDisposable {
  /** What was left after the last trim: a file system counts as used what it only reserves, so it may be negative. */
  let leftBytes = Number.NEGATIVE_INFINITY;
  let last: Promise<void> = Promise.resolve();
  const look = async () => {
    try {
      if ((await volume.spareBytes()) < leftBytes + worthwhileBytes) return;
      await volume.trim();
      leftBytes = await volume.spareBytes();
    } catch (error) {
      log.error("free space not given back", error);
    }
  };
  const lookNext = () => {
    last = last.then(look);
    return last;
  };
  const timer = setInterval(() => void lookNext(), everyMs).unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await lookNext();
    },
  };
}
