/**
 * System calls that Node has no function for, by koffi, a foreign function interface for Node.
 *
 * koffi is loaded at the first use (about 10 ms), so that commands that need none of this do not pay for it;
 * `loadSyscalls` loads it ahead of time. The calls run on the calling thread, and wait for nothing; those that
 * may wait return a promise and run on a thread of their own.
 */
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";

interface Libc {
  lseek(fd: number, offset: number, whence: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  posix_fadvise(fd: number, offset: number, length: number, advice: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  setns(fd: number, type: number): number;
  prctl(option: number, a: number, b: number, c: number, d: number): number;
  socket(domain: number, type: number, protocol: number): number;
  mount(source: string, target: string, type: string, flags: number, data: string): number;
  umount2(target: string, flags: number): number;
  flock: { async(fd: number, operation: number, done: (error: unknown, result: number) => void): void };
}

type Koffi = typeof import("koffi");
let loaded: { koffi: Koffi; libc: Libc } | undefined;

/** Loads koffi now rather than at the first call. */
export function loadSyscalls(): void {
  load();
}

function load(): { koffi: Koffi; libc: Libc } {
  if (loaded === undefined) {
    const koffi = createRequire(import.meta.url)("koffi") as Koffi;
    const c = koffi.load(null); // The C library that Node itself is linked with.
    loaded = {
      koffi,
      libc: {
        lseek: c.func("int64_t lseek(int fd, int64_t offset, int whence)"),
        fallocate: c.func("int fallocate(int fd, int mode, int64_t offset, int64_t length)"),
        posix_fadvise: c.func("int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)"),
        ioctl: c.func("int ioctl(int fd, unsigned long request, void *argument)"),
        setns: c.func("int setns(int fd, int nstype)"),
        prctl: c.func(
          "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)",
        ),
        socket: c.func("int socket(int domain, int type, int protocol)"),
        mount: c.func(
          "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
        ),
        umount2: c.func("int umount2(const char *target, int flags)"),
        flock: c.func("int flock(int fd, int operation)") as unknown as Libc["flock"],
      },
    };
  }
  return loaded;
}

/** An error like those of node:fs: `code` is the errno's name. */
function systemError(koffi: Koffi, syscall: string): NodeJS.ErrnoException {
  const errno = koffi.errno();
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${code}: ${syscall}`), { code, errno: -errno, syscall });
}

// lseek(2): from Linux 3.1 on. Both values are the same on all architectures.
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/**
 * lseek(2) with SEEK_DATA: the first offset of data at or after `offset`; undefined when there is none up to
 * the end of the file (ENXIO). It moves the file offset, which Node's positional reads and writes ignore.
 * File systems that keep no holes say that all is data.
 */
export function seekData(fd: number, offset: number): number | undefined {
  return seek(fd, offset, SEEK_DATA);
}

/** lseek(2) with SEEK_HOLE: the first offset of a hole at or after `offset`; the end of the file is one. */
export function seekHole(fd: number, offset: number): number | undefined {
  return seek(fd, offset, SEEK_HOLE);
}

function seek(fd: number, offset: number, whence: number): number | undefined {
  const { koffi, libc } = load();
  const found = libc.lseek(fd, offset, whence);
  if (found >= 0) return found;
  const error = systemError(koffi, "lseek");
  if (error.code === "ENXIO") return undefined;
  throw error;
}

// fallocate(2).
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/**
 * fallocate(2) with PUNCH_HOLE: the range reads as zeros afterwards and its whole blocks take no space. The
 * size stays (KEEP_SIZE must be given). Supported by XFS, ext4, Btrfs, tmpfs; EOPNOTSUPP elsewhere.
 */
export function punchHole(fd: number, offset: number, bytes: number): void {
  const { koffi, libc } = load();
  if (libc.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) !== 0) {
    throw systemError(koffi, "fallocate");
  }
}

const POSIX_FADV_WILLNEED = 3;

/**
 * posix_fadvise(2) with WILLNEED: has the kernel begin to read a part of a file into the page cache, and does not wait.
 * One call reads no more than the device takes at once, some hundred KiB. That it cannot is no error: it is advice.
 */
export function willNeed(fd: number, offset: number, bytes: number): void {
  load().libc.posix_fadvise(fd, offset, bytes, POSIX_FADV_WILLNEED);
}

/** ioctl(2) with a buffer that the kernel reads and writes. The caller answers for its layout and size. */
export function ioctl(fd: number, request: number, argument: Uint8Array): number {
  const { koffi, libc } = load();
  const result = libc.ioctl(fd, request, argument);
  if (result < 0) throw systemError(koffi, "ioctl");
  return result;
}

const CLONE_NEWNET = 0x40000000;

/**
 * Runs `action` while the calling thread is in another network namespace: setns(2) moves one thread, not the
 * process. `action` has to be synchronous, since everything else that this thread does would happen in
 * that namespace too. When the way back fails the process ends: it would go on in the wrong network.
 *
 * @param netns file descriptor of the namespace to enter.
 * @param home file descriptor of the thread's own namespace.
 */
export function inNetworkNamespace<T>(netns: number, home: number, action: () => T): T {
  const { koffi, libc } = load();
  if (libc.setns(netns, CLONE_NEWNET) !== 0) throw systemError(koffi, "setns");
  try {
    return action();
  } finally {
    if (libc.setns(home, CLONE_NEWNET) !== 0) {
      process.stderr.write(
        `sporelet: cannot leave a clone's network namespace: ${systemError(koffi, "setns").code}\n`,
      );
      process.abort();
    }
  }
}

// include/uapi/linux/prctl.h
const PR_SET_THP_DISABLE = 41;
const PR_SET_MEMORY_MERGE = 67;

/** prctl(2) PR_SET_MEMORY_MERGE: whether KSM may merge this process's memory, and its children's. Linux 6.4. */
export function memoryMerge(on: boolean): void {
  setForProcess(PR_SET_MEMORY_MERGE, on);
}

/** prctl(2) PR_SET_THP_DISABLE: whether this process, and its children, do without huge pages. Linux 3.15. */
export function noHugePages(on: boolean): void {
  setForProcess(PR_SET_THP_DISABLE, on);
}

function setForProcess(option: number, on: boolean): void {
  const { koffi, libc } = load();
  if (libc.prctl(option, on ? 1 : 0, 0, 0, 0) !== 0) throw systemError(koffi, "prctl");
}

/** Address of a buffer's memory, for structures that hold pointers. Valid while the buffer is referenced. */
export function addressOf(buffer: Uint8Array): bigint {
  return load().koffi.address(buffer) as bigint;
}

// The same on x86-64 and arm64: include/uapi/asm-generic/fcntl.h, include/linux/net.h, socket(2).
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

/** socket(2): a TCP socket that is not connected yet. It belongs to the network namespace of its creation. */
export function tcpSocket(family: 4 | 6): number {
  const { koffi, libc } = load();
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = libc.socket(family === 4 ? AF_INET : AF_INET6, type, 0);
  if (fd < 0) throw systemError(koffi, "socket");
  return fd;
}

const LOCK_EX = 2;

/**
 * flock(2), waiting on another thread until the lock is free. It belongs to the open file: closing it, or
 * the end of the process however it ends, gives it back. Only for locks that nobody keeps for long.
 */
export function lockFile(fd: number): Promise<void> {
  const { koffi, libc } = load();
  return new Promise((resolve, reject) => {
    libc.flock.async(fd, LOCK_EX, (error: unknown, result: number) => {
      if (error) reject(error);
      else if (result === 0) resolve();
      else reject(systemError(koffi, "flock"));
    });
  });
}

// mount(2): the same on all architectures.
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;

/** mount(2), for a file system of plain data: nothing on it is a program or a device. */
export function mountFileSystem(source: string, target: string, type: string, data: string): void {
  const { koffi, libc } = load();
  if (libc.mount(source, target, type, MS_NOSUID | MS_NODEV | MS_NOEXEC, data) !== 0) {
    throw systemError(koffi, "mount");
  }
}

const MNT_FORCE = 1;
const MNT_DETACH = 2;

/**
 * umount2(2): takes a mount out of the tree at once, whoever still uses it.
 *
 * @param options.abort also end what waits for the file system: for FUSE, its connection.
 * @returns false when nothing is mounted there.
 */
export function detachMount(target: string, options: { abort: boolean }): boolean {
  const { koffi, libc } = load();
  if (libc.umount2(target, MNT_DETACH | (options.abort ? MNT_FORCE : 0)) === 0) return true;
  const error = systemError(koffi, "umount2");
  if (error.code === "EINVAL" || error.code === "ENOENT") return false;
  throw error;
}
