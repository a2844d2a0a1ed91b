import { noHugePages } from "../syscalls.ts";

/**
 * Runs what starts a child process, synchronously: the child gets no anonymous huge pages, over fork and execve,
 * and this process goes on with its own.
 */
export function withoutHugePages<T>(action: () => T): T {
  noHugePages(true);
  try {
    return action();
  } finally {
    noHugePages(false);
  }
}

/** Of include/uapi/linux/audit.h, and the number of madvise(2), by what Node calls the architecture. */
const architectures: Record<string, { audit: number; madvise: number }> = {
  x64: { audit: 0xc000003e, madvise: 28 },
  arm64: { audit: 0xc00000b7, madvise: 233 },
};

const MADV_HUGEPAGE = 14;
const EINVAL = 22;

// Classic BPF over struct seccomp_data (linux/filter.h, linux/seccomp.h).
const load = 0x20; // BPF_LD | BPF_W | BPF_ABS
const jumpIfEqual = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const give = 0x06; // BPF_RET | BPF_K
const numberAt = 0;
const architectureAt = 4;
const thirdArgumentAt = 32;
const allow = 0x7fff0000; // SECCOMP_RET_ALLOW
const refuse = 0x00050000 | EINVAL; // SECCOMP_RET_ERRNO

/**
 * A system call filter (seccomp(2)) under which madvise(2) with MADV_HUGEPAGE fails, as on a kernel without
 * huge pages, and nothing else changes.
 *
 * QEMU asks for huge pages for all guest memory. In a mapping of a file the kernel then reads 4 MiB around each
 * page that is touched, with readahead switched off too (mm/filemap.c, do_sync_mmap_readahead): a fault would
 * wait for a thousand pages, and a recording of touched pages would say nothing.
 *
 * @returns instructions of classic BPF, 8 bytes each (struct sock_filter)
 * @throws on architectures that are not known here.
 */
export function hugePageFilter(architecture: string = process.arch): Buffer {
  const known = architectures[architecture];
  if (known === undefined) throw new Error(`no system call numbers are known for ${architecture}`);
  const instructions: [code: number, ifTrue: number, ifFalse: number, value: number][] = [
    [load, 0, 0, architectureAt],
    [jumpIfEqual, 0, 4, known.audit],
    [load, 0, 0, numberAt],
    [jumpIfEqual, 0, 2, known.madvise],
    [load, 0, 0, thirdArgumentAt],
    [jumpIfEqual, 1, 0, MADV_HUGEPAGE],
    [give, 0, 0, allow],
    [give, 0, 0, refuse],
  ];
  const program = Buffer.alloc(instructions.length * 8);
  for (const [n, [code, ifTrue, ifFalse, value]] of instructions.entries()) {
    program.writeUInt16LE(code, n * 8);
    program.writeUInt8(ifTrue, n * 8 + 2);
    program.writeUInt8(ifFalse, n * 8 + 3);
    program.writeUInt32LE(value, n * 8 + 4);
  }
  return program;
}
