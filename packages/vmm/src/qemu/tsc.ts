/**
 * The frequency of this host's time stamp counter, which under software emulation is the guest's too
 * (qemu: cpu_get_host_ticks).
 *
 * The guest has to know it. Left alone it counts against the PIT for some 10 ms, and where the emulator does
 * not get a core to itself in that time the count fails; a microvm has no other clock to count against, the
 * kernel then has none at all and hangs for ever ("tsc: Unable to calibrate against PIT"). Measured with four
 * busy processes to a core: 6 of 6 boots hung, and 0 of 6 when the kernel was told by `tsc_early_khz`.
 */
import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";

let known: Promise<number | undefined> | undefined;

/** Kilohertz, measured once; undefined where it cannot be read: other architectures, no executable memory. */
export function hostTscKhz(): Promise<number | undefined> {
  known ??= measure().catch(() => undefined);
  return known;
}

interface Sample {
  ticks: bigint;
  ns: bigint;
}

/** Long enough that a microsecond of error on both ends is 40 parts in a million. */
const intervalMs = 50;

async function measure(): Promise<number | undefined> {
  if (process.arch !== "x64") return undefined;
  const readTsc = loadReadTsc();
  const first = sample(readTsc);
  await setTimeout(intervalMs);
  const last = sample(readTsc);
  return kilohertz(first, last);
}

/** Ticks per millisecond between two samples. Pure. */
export function kilohertz(first: Sample, last: Sample): number {
  return Number(((last.ticks - first.ticks) * 1_000_000n) / (last.ns - first.ns));
}

/** The closest of a few pairs of both clocks: the process may lose its core between one and the other. */
function sample(readTsc: () => bigint): Sample {
  let best: (Sample & { spread: bigint }) | undefined;
  for (let i = 0; i < 20; i++) {
    const before = process.hrtime.bigint();
    const ticks = readTsc();
    const spread = process.hrtime.bigint() - before;
    if (best === undefined || spread < best.spread) best = { ticks, ns: before + spread / 2n, spread };
  }
  return best as Sample;
}

// rdtsc; shl rdx, 32; or rax, rdx; ret
const code = [0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3];
const pageBytes = 4096;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FAILED = 2n ** 64n - 1n;

/** Ten bytes of machine code in a page of their own: no system call tells this number. */
function loadReadTsc(): () => bigint {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  const c = koffi.load(null);
  const mmap = c.func(
    "void *mmap(void *address, size_t length, int prot, int flags, int fd, int64_t offset)",
  );
  const mprotect = c.func("int mprotect(void *address, size_t length, int prot)");
  const page = mmap(null, pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (koffi.address(page) === MAP_FAILED) throw new Error("no memory");
  koffi.encode(page, koffi.array("uint8_t", code.length), code);
  if (mprotect(page, pageBytes, PROT_READ | PROT_EXEC) !== 0) throw new Error("no executable memory");
  const call = koffi.decode(page, koffi.proto("uint64_t sporelet_rdtsc()")) as () => number | bigint;
  return () => BigInt(call());
}
