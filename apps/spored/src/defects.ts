import { errorCodes, SporeletError } from "@sporelet/errors";
import type { Log } from "./log.ts";

/** How long an orderly end may take that begins with a defect: it may be what keeps it from ending. */
const endTimeoutMs = 10_000;

export interface Defects extends Disposable {
  /** One was seen: spored is ending for it. */
  readonly seen: boolean;
}

/**
 * What becomes of spored when a promise is rejected that nobody handles, or an error thrown that nobody catches.
 *
 * It says so in its log, with the stack, and ends as if it had been told to; whoever supervises it sees by its exit
 * code that it is to be started again, and otherwise the next command starts another one.
 *
 * To go on would be worse. What failed was half of something: a gate that stays closed, a machine that is counted as
 * ending for ever, a network that two believe to be theirs. Nothing in this process knows which, and guests would find
 * out. A new spored does know: machines do not need this process, what is true of them is on the disk, and every start
 * takes over what runs and sweeps what is half-made. It costs the calls under way, which fail and say so, and their
 * ports for as long as it takes. Orderly, because the other calls and the slots can still be cleared away; for a
 * limited time, because nothing is certain any more.
 */
export function watchDefects({ log, end }: { log: Log; end: (why: string) => void }): Defects {
  let seen = false;
  // Rejections that nobody handles come here too, as errors whatever they were.
  const onDefect = (error: Error, origin: NodeJS.UncaughtExceptionOrigin) => {
    // Of our own errors the log has the message alone.
    log.error("defect", error, { origin, ...(error instanceof SporeletError && { stack: error.stack }) });
    if (seen) return;
    seen = true;
    end("a defect");
    setTimeout(() => process.exit(errorCodes.internal), endTimeoutMs).unref();
  };
  process.on("uncaughtException", onDefect);
  return {
    get seen() {
      return seen;
    },
    [Symbol.dispose]: () => void process.off("uncaughtException", onDefect),
  };
}
