import { SporeletError } from "@sporelet/errors";
import type { BlobIndex } from "./blob-index.ts";
import { limits } from "./format.ts";

/**
 * What the indexes of one chain may still hold. They are held all at once to be laid over one another, and a few
 * kilobytes can stand for millions of runs each: one index after the other takes its part before room is made for it.
 */
export interface ChainBudget {
  frames: number;
  runs: number;
}

/** Of a chain of which nothing was read yet. */
export function chainBudget(): ChainBudget {
  return { frames: limits.chainFrames, runs: limits.chainRuns };
}

/** Takes a blob's part; a blob that is refused takes none. */
export function takeFrom(budget: ChainBudget, { frames, zeroRuns }: BlobIndex): void {
  budget.frames -= frames.length;
  budget.runs -= runsIn({ frames, zeroRuns });
}

export function runsIn({ frames, zeroRuns }: Pick<BlobIndex, "frames" | "zeroRuns">): number {
  return frames.reduce((sum, { runs }) => sum + runs.length, zeroRuns.length);
}

/** The error for a chain that is too much to be laid over one another. */
export function chainTooLarge(
  what: "frames" | "runs",
  context: { operation: string; subject?: string | undefined },
): SporeletError {
  const [most, name] =
    what === "frames" ? [limits.chainFrames, "frames"] : [limits.chainRuns, "runs of pages"];
  return new SporeletError({
    ...context,
    code: "resource_exhausted",
    reason: `its chain has more than ${most} ${name} in all, which are the most`,
    hint: "nothing that is frozen comes near this: ask whoever published it, or build it again",
  });
}
