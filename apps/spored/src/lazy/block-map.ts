/** Which pages of a disk are its own, and no longer the base's. */
export interface BlockMap {
  readonly pages: number;
  has(page: number): boolean;
  /** Whether all pages from one up to, but not including, another are in it. */
  hasAll(from: number, to: number): boolean;
  add(from: number, to: number): void;
  /** The next stretch of pages at or after one that are not in it, at most `limit` long; undefined: none. */
  nextAbsent(from: number, limit: number): { from: number; to: number } | undefined;
}

/**
 * A bit for each page: 32 KiB for each GiB of disk. Pages are below 2^32, those of a disk of 16 TiB: shifts are
 * without a sign, for which they would be negative from 8 TiB on.
 */
export function createBlockMap(pages: number): BlockMap {
  const bits = new Uint8Array(Math.ceil(pages / 8));
  const has = (page: number) => ((bits[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0;
  return {
    pages,
    has,
    hasAll(from, to) {
      for (let page = from; page < to; page++) if (!has(page)) return false;
      return true;
    },
    add(from, to) {
      for (let page = from; page < to; ) {
        if ((page & 7) === 0 && to - page >= 8) {
          bits[page >>> 3] = 0xff;
          page += 8;
        } else {
          bits[page >>> 3] = (bits[page >>> 3] ?? 0) | (1 << (page & 7));
          page += 1;
        }
      }
    },
    nextAbsent(from, limit) {
      let start = from;
      while (start < pages && has(start)) start += (start & 7) === 0 && bits[start >>> 3] === 0xff ? 8 : 1;
      if (start >= pages) return undefined;
      let to = start + 1;
      while (to < pages && to - start < limit && !has(to)) to += 1;
      return { from: start, to };
    },
  };
}
