/** The unit in which guest memory and disks are looked at; the page size of x86-64. */
export const pageBytes = 4096;

/** A stretch of bytes: of a file, of a buffer. */
export interface Extent {
  offset: number;
  length: number;
}

// Compared in large pieces first: most of an idle guest's memory is zero, and memcmp is quick.
const bigBytes = 64 * 1024;
const zeros = Buffer.alloc(bigBytes);

/**
 * The stretches of a buffer's first `length` bytes that hold pages with a byte other than zero, adjoining
 * pages in one. A last page may be shorter than the others.
 */
export function nonZeroRuns(buffer: Buffer, length = buffer.length): Extent[] {
  const runs: Extent[] = [];
  let start = -1;
  for (let offset = 0; offset < length; ) {
    const end = Math.min(offset + bigBytes, length);
    if (start < 0 && isZero(buffer, offset, end)) {
      offset = end;
      continue;
    }
    for (; offset < end; offset += pageBytes) {
      const pageEnd = Math.min(offset + pageBytes, length);
      if (!isZero(buffer, offset, pageEnd)) {
        if (start < 0) start = offset;
      } else if (start >= 0) {
        runs.push({ offset: start, length: offset - start });
        start = -1;
      }
    }
    offset = end;
  }
  if (start >= 0) runs.push({ offset: start, length: length - start });
  return runs;
}

/** Whether the bytes from `start` to `end`, at most 64 KiB, are all zero. */
function isZero(buffer: Buffer, start: number, end: number): boolean {
  // The first byte answers for most pages that are not zero, without a call into native code.
  return buffer[start] === 0 && buffer.compare(zeros, 0, end - start, start, end) === 0;
}
