/** What is written where for limits. Pure. */
import type { GroupControl } from "./layout.ts";

/** What a machine may take at most; without a value there is no limit. */
export interface MachineLimits {
  /** CPUs, for all of the VMM: 0.5 is half of one. At least 0.01. */
  cpus?: number;
  /** Memory of the VMM with its guest, what it reads from files included. */
  memoryBytes?: number;
  /** Bytes per second that it reads from its disk and writes to it. */
  ioBytesPerSecond?: number;
}

/** One value, and the file of the group's directory that takes it. */
export interface GroupSetting {
  control: GroupControl;
  file: string;
  value: string;
  /** It does not matter if the host cannot. */
  optional?: true;
}

/** cpu.shares and cpu.weight of a group that was given none: what one process at the same level weighs. */
const shareOfOne = { 1: 1024, 2: 100 } as const;
/** The kernel's own default for a quota. */
const periodUs = 100_000;

/** @param factor how many times the weight of one process. */
export function weightSetting(version: 1 | 2, factor: number): GroupSetting {
  const value = `${Math.min(Math.round(factor * shareOfOne[version]), version === 2 ? 10_000 : 262_144)}`;
  return { control: "cpus", file: version === 2 ? "cpu.weight" : "cpu.shares", value };
}

/** @param device "MAJOR:MINOR" of the block device for the limit of I/O. */
export function limitSettings(version: 1 | 2, limits: MachineLimits, device: string): GroupSetting[] {
  const { cpus, memoryBytes, ioBytesPerSecond: rate } = limits;
  const settings: GroupSetting[] = [];
  if (cpus !== undefined) {
    const quotaUs = Math.max(1_000, Math.round(cpus * periodUs));
    if (version === 2) settings.push({ control: "cpus", file: "cpu.max", value: `${quotaUs} ${periodUs}` });
    else {
      settings.push({ control: "cpus", file: "cpu.cfs_period_us", value: `${periodUs}` });
      settings.push({ control: "cpus", file: "cpu.cfs_quota_us", value: `${quotaUs}` });
    }
  }
  if (memoryBytes !== undefined) {
    // Swap would only put off the end, and slow the host down for everybody. Not every kernel counts it.
    const value = `${memoryBytes}`;
    const [memory, swap] =
      version === 2
        ? (["memory.max", { file: "memory.swap.max", value: "0" }] as const)
        : (["memory.limit_in_bytes", { file: "memory.memsw.limit_in_bytes", value }] as const);
    settings.push({ control: "memory", file: memory, value });
    settings.push({ control: "memory", ...swap, optional: true });
  }
  if (rate !== undefined && version === 2) {
    // The kernel takes whole devices only. The VMM holds its disks to the limit by itself (`Slot.resume`); this
    // adds what it reads and writes besides.
    const value = `${device} rbps=${rate} wbps=${rate}`;
    settings.push({ control: "io", file: "io.max", value, optional: true });
  }
  return settings;
}

/** The file that counts processes that were killed for the memory limit, as "oom_kill N" on a line. */
export const killsFile = { 1: "memory.oom_control", 2: "memory.events" } as const;

/** @param text of `killsFile`. */
export function wasKilled(text: string): boolean {
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0) > 0;
}
