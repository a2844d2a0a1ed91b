/**
 * KSM, the kernel's merging of equal pages, for the machines of one trust domain (kernel:
 * Documentation/admin-guide/mm/ksm.rst).
 *
 * A process opts in for all of its memory (prctl(PR_SET_MEMORY_MERGE), Linux 6.4) and nothing else on the host
 * does. But the kernel merges across all processes that have opted in: it knows no domains. Who shares pages
 * can find out, by the time that a write takes, what the other one's memory holds; hence one domain at a time on
 * a host. Which one that is, and what the kernel's switch stood at before, is kept in a file for all spored of
 * the host, with the processes that it is kept for: those that ended, however, count no more.
 */
import { readFile, rm, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { writeFileAtomic } from "../files/atomic.ts";
import { hostLock } from "../host-lock.ts";
import { processStartTicks } from "../process.ts";
import { memoryMerge } from "../syscalls.ts";

export interface MergingOptions {
  /** The kernel's files. Default: /sys/kernel/mm/ksm. */
  kernelDirectory?: string;
  /** Where the host's state is kept. Default: /run/sporelet. */
  stateDirectory?: string;
}

export interface MemoryMerging {
  /**
   * Makes a domain the host's, for as long as the process lives, and switches merging on.
   *
   * @throws SporeletError `failed_precondition` when another domain has it; `unsupported` when the kernel cannot;
   *   `permission_denied` without root.
   */
  enter(domain: string, pid: number): Promise<void>;
  /** The process needs it no more; the last one switches merging back to what it was. */
  leave(pid: number): Promise<void>;
  /** As `leave`, for processes that have ended. */
  sweep(): Promise<void>;
}

/** `run` of the kernel: 0 stopped, 1 merging, 2 stopped and all merged pages separated again. */
interface State {
  domain: string;
  /** What `run` was before. */
  before: string;
  members: { pid: number; startTicks: number }[];
}

/** The merging of this host. Changes nothing yet. */
export function memoryMerging(options: MergingOptions = {}): MemoryMerging {
  const { kernelDirectory = "/sys/kernel/mm/ksm", stateDirectory = "/run/sporelet" } = options;
  const run = join(kernelDirectory, "run");
  const stateFile = join(stateDirectory, "merging.json");

  const oneByOne = hostLock(join(stateDirectory, "merging.lock"), "merge equal memory");

  const change = (next: (state: State | undefined) => Promise<State | undefined>) =>
    oneByOne(() => changed(next));
  const changed = async (next: (state: State | undefined) => Promise<State | undefined>) => {
    const state = await living(await readState(stateFile));
    const following = await next(state);
    if (following !== undefined && following.members.length > 0) {
      await writeFileAtomic(stateFile, JSON.stringify(following));
      return;
    }
    if (following !== undefined) await writeFile(run, following.before);
    await rm(stateFile, { force: true });
  };
  return {
    async enter(domain, pid) {
      await requireMerging(run);
      const startTicks = (await processStartTicks(pid)) ?? 0;
      await change(async (state) => {
        if (state !== undefined && state.members.length > 0 && state.domain !== domain) {
          throw otherDomain(domain, state.domain);
        }
        const before = state?.before ?? (await readFile(run, "utf8")).trim();
        const others = (state?.members ?? []).filter((member) => member.pid !== pid);
        const following = { domain, before, members: [...others, { pid, startTicks }] };
        // Noted before it is done: a crash in between is made good by the next one who looks.
        await writeFileAtomic(stateFile, JSON.stringify(following));
        await writeFile(run, "1");
        return following;
      });
    },
    async leave(pid) {
      await change(
        async (state) => state && { ...state, members: state.members.filter((member) => member.pid !== pid) },
      );
    },
    async sweep() {
      if ((await readState(stateFile)) !== undefined) await change(async (state) => state);
    },
  };
}

/**
 * Runs what starts a child process, synchronously: the child's memory is merged, over fork and execve, and this
 * process's own is not.
 */
export function withMergedMemory<T>(action: () => T): T {
  memoryMerge(true);
  try {
    return action();
  } finally {
    memoryMerge(false);
  }
}

/**
 * Whether a kernel of this release goes by processes: prctl(PR_SET_MEMORY_MERGE) came with Linux 6.4, and its
 * inheritance over execve was completed with 6.7.
 */
export function canMergeByProcess(kernelRelease: string): boolean {
  const [major = 0, minor = 0] = kernelRelease.split(".").map((part) => Number.parseInt(part, 10));
  return major > 6 || (major === 6 && minor >= 7);
}

async function requireMerging(run: string): Promise<void> {
  const operation = "merge equal memory";
  if (process.getuid?.() !== 0) {
    const hint = "run spored as root";
    throw new SporeletError({ code: "permission_denied", operation, reason: "this needs root", hint });
  }
  const there = await readFile(run).then(
    () => true,
    () => false,
  );
  if (there && canMergeByProcess(release())) return;
  throw new SporeletError({
    code: "unsupported",
    operation,
    reason: there
      ? `this kernel (${release()}) cannot switch it on for one process and its children: that takes Linux 6.7`
      : "this kernel has no KSM (CONFIG_KSM)",
    hint: "leave --ksm out: clones of one snapshot share its pages anyway",
  });
}

function otherDomain(domain: string, active: string): SporeletError {
  return new SporeletError({
    code: "failed_precondition",
    operation: "merge equal memory",
    subject: `for the domain ${domain}`,
    reason: `machines of the domain ${active} are merged on this host, and the kernel would merge across both: from the time that a write takes, each could learn what the other's memory holds`,
    hint: "leave --ksm out, stop the other domain's machines, or use another host",
  });
}

async function readState(file: string): Promise<State | undefined> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as State;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function living(state: State | undefined): Promise<State | undefined> {
  if (state === undefined) return undefined;
  const members = [];
  for (const member of state.members) {
    if ((await processStartTicks(member.pid)) === member.startTicks) members.push(member);
  }
  return { ...state, members };
}
