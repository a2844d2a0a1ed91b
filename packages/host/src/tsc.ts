import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";

const PROT_READ_WRITE_EXEC = 7;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const pageBytes = 4096;
// rdtsc; shl rdx, 32; or rax, rdx; ret
const readTsc = Uint8Array.of(0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3);
/** 40 ms against some microseconds of the clock's noise: better than one in ten thousand. */
const measureMs = 40;

let measured: Promise<number | undefined> | undefined;

/**
 * The rate of this host's time stamp counter in kHz, measured once; undefined where there is none to be
 * read. Linux does not tell it to user space: "cpu MHz" is another clock.
 */
export function tscKhz(): Promise<number | undefined> {
  measured ??= process.arch === "x64" ? measure().catch(() => undefined) : Promise.resolve(undefined);
  return measured;
}

async function measure(): Promise<number | undefined> {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  const c = koffi.load(null);
  const mmap = c.func("void *mmap(void *, size_t, int, int, int, int64_t)");
  const munmap = c.func("int munmap(void *, size_t)");
  // Ten bytes of our own code, which read a register and return: Node has no other way to it.
  const page = mmap(null, pageBytes, PROT_READ_WRITE_EXEC, MAP_PRIVATE_ANONYMOUS, -1, 0);
  try {
    koffi.encode(page, koffi.array("uint8_t", readTsc.length), readTsc);
    const read = koffi.decode(page, koffi.proto("uint64_t ReadTsc()")) as () => number | bigint;
    // The clock before and after each reading: the nearest pair counts.
    const sample = () => {
      let best = { error: Number.POSITIVE_INFINITY, at: 0, ticks: 0n };
      for (let n = 0; n < 20; n++) {
        const before = performance.now();
        const ticks = BigInt(read());
        const after = performance.now();
        if (after - before < best.error) best = { error: after - before, at: (before + after) / 2, ticks };
      }
      return best;
    };
    const first = sample();
    await setTimeout(measureMs);
    const last = sample();
    return Math.round(Number(last.ticks - first.ticks) / (last.at - first.at));
  } finally {
    munmap(page, pageBytes);
  }
}
