/** A part of a process's address space that maps a file. */
export interface MappedRegion {
  /** In the process. Page-aligned. */
  address: number;
  bytes: number;
  /** In the mapped file. */
  offset: number;
}

/** Adds a stretch to a list in order of addresses; one that adjoins the last in memory and file extends it. */
export function appendRun(runs: MappedRegion[], address: number, bytes: number, offset: number): void {
  const last = runs.at(-1);
  if (last !== undefined && last.address + last.bytes === address && last.offset + last.bytes === offset) {
    last.bytes += bytes;
  } else {
    runs.push({ address, bytes, offset });
  }
}
