import { SporeletError } from "@sporelet/errors";
import { readWorkingSet as readFile, type TouchedRun, type WorkingSet } from "@sporelet/page-image";

/** A recorded working set; an unreadable one is as good as none, since it only makes a start quicker. */
export async function readWorkingSet(path: string, onProblem: (reason: string) => void): Promise<WorkingSet> {
  try {
    return await readFile(path);
  } catch (error) {
    onProblem(SporeletError.from(error, { operation: "read the working set" }).reason);
    return [];
  }
}

/** Writes down which pages are touched first. */
export interface TouchRecorder {
  touch(image: TouchedRun["image"], offset: number, bytes: number): void;
  readonly runs: WorkingSet;
}

export function createTouchRecorder(pageBytes: number): TouchRecorder {
  const runs: TouchedRun[] = [];
  return {
    touch(image, offset, bytes) {
      const page = Math.floor(offset / pageBytes);
      runs.push({ image, page, count: Math.floor((offset + bytes - 1) / pageBytes) - page + 1 });
    },
    runs,
  };
}
