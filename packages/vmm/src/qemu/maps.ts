import type { MemoryRegion } from "../contract.ts";

interface Mapping {
  address: number;
  end: number;
  offset: number;
  inode: number;
  path: string;
}

/**
 * Where the guest's memory lies, from the text of /proc/PID/maps (proc(5)): the mappings of its file, by path
 * or, when the file was renamed or removed since, by inode; and what is there now where a balloon or a discard
 * took away a part of such a mapping. Pure.
 */
export function regionsOf(
  maps: string,
  file: { path: string; inode: number; bytes: number },
): MemoryRegion[] {
  const path = file.path.replaceAll("\n", "\\012");
  const all = maps.split("\n").flatMap(parseLine);
  const byPath = all.filter((mapping) => mapping.path === path);
  const ours = byPath.length > 0 ? byPath : all.filter(({ inode }) => inode === file.inode);
  const regions: MemoryRegion[] = [];
  let covered = 0;
  for (const { address, end, offset } of ours.toSorted((a, b) => a.offset - b.offset)) {
    // The file is mapped in one piece, so what is missing of it lay right before this part, or after it.
    if (offset > covered) regions.push(...replacements(all, address - (offset - covered), address, covered));
    regions.push({ address, bytes: end - address, offset });
    covered = offset + (end - address);
  }
  const last = regions.at(-1);
  if (last !== undefined && covered < file.bytes) {
    const start = last.address + last.bytes;
    regions.push(...replacements(all, start, start + (file.bytes - covered), covered));
  }
  return regions;
}

function parseLine(line: string): Mapping[] {
  const found = /^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ (\d+)\s*(.*)$/.exec(line);
  if (found === null) return [];
  const [address = 0, end = 0, offset = 0] = found.slice(1, 4).map((digits) => Number.parseInt(digits, 16));
  return [{ address, end, offset, inode: Number(found[4]), path: found[5] ?? "" }];
}

/** What is mapped from one address to another, which was the file from `offset` on. */
function replacements(all: readonly Mapping[], start: number, end: number, offset: number): MemoryRegion[] {
  const regions: MemoryRegion[] = [];
  const add = (from: number, to: number, replaced: "anonymous" | "other" | "nothing") => {
    if (to > from)
      regions.push({ address: from, bytes: to - from, offset: offset + (from - start), replaced });
  };
  let at = start;
  for (const mapping of all) {
    if (mapping.end <= at || mapping.address >= end) continue;
    const from = Math.max(at, mapping.address);
    const to = Math.min(end, mapping.end);
    add(at, from, "nothing");
    // Shared anonymous memory has an inode, and its pages are not found as private ones.
    add(from, to, mapping.inode === 0 ? "anonymous" : "other");
    at = to;
  }
  add(at, end, "nothing");
  return regions;
}
