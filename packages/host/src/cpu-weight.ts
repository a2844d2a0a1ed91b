import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/**
 * Nice values (sched(7)) of VMMs, for when there is too little CPU for all. One step is a factor of 1.25: a machine
 * that somebody waits for has nine times the share of one that runs, and what is prepared for nobody yet a fifth.
 * spored and whatever else the host runs are in between. docs/density.md has the measurement, and
 * docs/design/0012-weights-are-nice-values.md says why these are no weights of control groups.
 */
export const niceValues = { preparing: 12, running: 5, resuming: -5 } as const;
export type MachineWeight = keyof typeof niceValues;

/** linux: include/uapi/linux/capability.h */
const capSysNice = 23;
let mayWeigh: boolean | undefined;

/** Whether this process has it in effect: CapEff of proc_pid_status(5), 64 bits. */
function hasCapability(number: number): boolean {
  const effective = /^CapEff:\t([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> BigInt(number)) & 1n) === 1n;
}

/**
 * Sets what a process weighs: all of its threads, and where sessions are scheduled as groups (autogroup in sched(7))
 * its session, which has to be its own. Some 0.1 ms. Nothing without CAP_SYS_NICE, as root in a container may be: a
 * value could be raised there, and not lowered again. Nothing for a process that has ended.
 *
 * @throws when the kernel refuses
 */
export function weighProcess(pid: number, weight: MachineWeight): void {
  mayWeigh ??= hasCapability(capSysNice);
  if (!mayWeigh) return;
  const nice = niceValues[weight];
  const unlessGone = (action: () => void) => {
    try {
      action();
    } catch (error) {
      // node:os puts the kernel's code into `info`.
      const { code, info } = error as NodeJS.ErrnoException & { info?: { code?: string } };
      if (!["ENOENT", "ESRCH"].includes(info?.code ?? code ?? "")) throw error;
    }
  };
  unlessGone(() => {
    // The first thread first: those that begin from now on inherit its value.
    setPriority(pid, nice);
    for (const thread of readdirSync(`/proc/${pid}/task`))
      unlessGone(() => setPriority(Number(thread), nice));
    // Not there in a kernel without such groups.
    writeFileSync(`/proc/${pid}/autogroup`, `${nice}`);
  });
}
