/**
 * Waits for the end of a process that is not our child, by a pidfd (pidfd_open(2), Linux 5.3): it becomes
 * readable when the process has ended, also while nobody has reaped it yet.
 */
import { closeSync } from "node:fs";
import { createRequire } from "node:module";
import { promisify } from "node:util";

/** The same number on all architectures. */
const SYS_pidfd_open = 434;
const POLLIN = 1;

interface Calls {
  syscall(number: number, pid: number, flags: number): number;
  poll: {
    async(fds: Uint8Array, count: number, timeoutMs: number, done: (e: unknown, n: number) => void): void;
  };
}
let calls: Calls | undefined;

function load(): Calls {
  if (calls === undefined) {
    const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
    const c = koffi.load(null);
    calls = {
      syscall: c.func("long syscall(long number, int pid, unsigned int flags)"),
      poll: c.func("int poll(void *fds, unsigned long count, int timeout)") as unknown as Calls["poll"],
    };
  }
  return calls;
}

/**
 * Whether the process ends within the time; true when there is none. It holds a thread of the pool for that
 * long: for processes that are about to end.
 */
export async function endsWithin(pid: number, timeoutMs: number): Promise<boolean> {
  const { syscall, poll } = load();
  const fd = Number(syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return true;
  try {
    const fds = Buffer.alloc(8); // struct pollfd: int fd; short events; short revents.
    fds.writeInt32LE(fd, 0);
    fds.writeInt16LE(POLLIN, 4);
    const ready = await promisify<Uint8Array, number, number, number>(poll.async)(fds, 1, timeoutMs);
    return ready > 0;
  } finally {
    closeSync(fd);
  }
}
