import { readFileSync } from "node:fs";
import { SporeletError } from "@sporelet/errors";
import type { VictimRecord } from "./spec.ts";

/** Remembers which processes met pages that cannot be had, and why. */
export interface Victims {
  readonly list: readonly VictimRecord[];
  /** @param thread as FUSE names who asks; 0: nobody in particular */
  add(thread: number, error: unknown): void;
}

export function createVictims(onChange: () => void): Victims {
  const found = new Map<number, string>();
  return {
    get list() {
      return [...found].map(([pid, reason]) => ({ pid, reason }));
    },
    add(thread, error) {
      const pid = processOf(thread);
      if (pid === undefined || found.has(pid)) return;
      const { reason } = SporeletError.from(error, { operation: "fetch pages" });
      found.set(pid, reason);
      onChange();
    },
  };
}

/** The process of a thread (proc(5), status). */
function processOf(thread: number): number | undefined {
  if (thread === 0) return undefined;
  try {
    return Number(/^Tgid:\s*(\d+)$/m.exec(readFileSync(`/proc/${thread}/status`, "latin1"))?.[1]);
  } catch {
    return undefined; // It has ended for another reason.
  }
}
