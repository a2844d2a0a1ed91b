import { readdir, readFile } from "node:fs/promises";
import { cpuTimeMs } from "./stats.ts";

/** What a process had used and waited for at some time from `begunAt` to `endedAt`, by `performance.now()`. */
export interface LoadSample {
  begunAt: number;
  endedAt: number;
  /** CPU time of all its threads, those that have ended included. */
  usedMs: number;
  /** For each of its threads, the time that it waited for a CPU; a wait counts when it is over. */
  waitedMs: ReadonlyMap<string, number>;
}

/**
 * A guest that has used more than this of one core since the last connection or call works for itself. Health
 * checks and timers stay below it, on a host that emulates too.
 */
const workingShare = 0.5;
/** And so does one that always wants to run, however little of the host it gets. */
const wantingShare = 0.9;
/**
 * A wait that goes on is not counted yet. One for the limit of a control group lasts no longer than its period
 * (cpu.cfs_period_us, cpu.max: 100 ms).
 */
const pendingWaitMs = 100;

/**
 * Whether a guest works for itself, by two samples of its process. What is not known is taken for work: the samples
 * are as close to each other as they can be, and a wait goes on that is not counted.
 */
export function worksByItself(before: LoadSample, now: LoadSample): boolean {
  const elapsedMs = now.begunAt - before.endedAt;
  const usedMs = now.usedMs - before.usedMs;
  // Of a thread that has ended nothing is known any more; one that is new began with none.
  const waits = [...now.waitedMs].map(([thread, ms]) => ms - (before.waitedMs.get(thread) ?? 0));
  const wantedMs = waits.reduce((sum, ms) => sum + ms, usedMs + pendingWaitMs);
  return usedMs > workingShare * elapsedMs || wantedMs > wantingShare * elapsedMs;
}

export async function sampleLoad(pid: number): Promise<LoadSample> {
  const begunAt = performance.now();
  const [usedMs, waitedMs] = await Promise.all([cpuTimeMs(pid), waitedTimeMs(pid)]);
  return { begunAt, endedAt: performance.now(), usedMs, waitedMs };
}

/** The second field of schedstat of its threads, nanoseconds (Documentation/scheduler/sched-stats.rst of Linux). */
async function waitedTimeMs(pid: number): Promise<Map<string, number>> {
  const directory = `/proc/${pid}/task`;
  const threads = await readdir(directory).catch(() => []);
  const waits = threads.map(async (thread): Promise<[string, number][]> => {
    const text = await readFile(`${directory}/${thread}/schedstat`, "latin1").catch(() => "");
    // Empty: it has ended meanwhile.
    return text === "" ? [] : [[thread, Number(text.split(" ")[1]) / 1e6]];
  });
  return new Map((await Promise.all(waits)).flat());
}
