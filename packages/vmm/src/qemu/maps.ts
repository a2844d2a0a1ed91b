import type { MemoryRegion } from "../contract.ts";

/**
 * The mappings of one file in the text of /proc/PID/maps (proc(5)), by path or, when the file was renamed or
 * removed since, by inode. Pure.
 */
export function regionsOf(maps: string, file: { path: string; inode: number }): MemoryRegion[] {
  const path = file.path.replaceAll("\n", "\\012");
  const mappings = maps.split("\n").flatMap((line) => {
    const found = /^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ (\d+)\s*(.*)$/.exec(line);
    if (found === null) return [];
    const [start = 0, end = 0, offset = 0] = found.slice(1, 4).map((digits) => Number.parseInt(digits, 16));
    return [{ address: start, bytes: end - start, offset, inode: Number(found[4]), path: found[5] }];
  });
  const byPath = mappings.filter((mapping) => mapping.path === path);
  const matches = byPath.length > 0 ? byPath : mappings.filter(({ inode }) => inode === file.inode);
  return matches.map(({ address, bytes, offset }) => ({ address, bytes, offset }));
}
