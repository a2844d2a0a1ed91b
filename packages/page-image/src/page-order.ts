/**
 * The order that sorts a list of page numbers: positions in the list, that of the lowest page first. For millions of
 * pages: they are sorted as numbers, without a call for each comparison.
 */
export function orderByPage(count: number, pageAt: (i: number) => number): Uint32Array {
  // Page and position as one number of 64 bits; both are below 2^32. The byte order is that of all hosts
  // that Node runs on.
  const keys = new BigUint64Array(count);
  const halves = new Uint32Array(keys.buffer);
  for (let i = 0; i < count; i++) {
    halves[2 * i] = i;
    halves[2 * i + 1] = pageAt(i);
  }
  keys.sort();
  return Uint32Array.from({ length: count }, (_, i) => halves[2 * i] as number);
}
