import { open } from "node:fs/promises";
import fc from "fast-check";
import type { PageRun } from "../types.ts";

export const pageBytes = 4096;

/** An image's content in short: for each page a byte to fill it from, or null for zeros. */
export interface ImageShape {
  pages: (number | null)[];
  /** Length of an unfinished last page. */
  rest: number;
}

/** Pages come in stretches, as in real images. */
export const imageShapes: fc.Arbitrary<ImageShape> = fc.record({
  pages: fc
    .array(
      fc.tuple(fc.option(fc.integer({ min: 1, max: 255 }), { freq: 2 }), fc.integer({ min: 1, max: 40 })),
      {
        maxLength: 12,
      },
    )
    .map((stretches) => stretches.flatMap(([byte, length]) => Array<number | null>(length).fill(byte))),
  rest: fc.nat(pageBytes - 1),
});

export function contentOf({ pages, rest }: ImageShape): Buffer {
  const content = Buffer.alloc(pages.length * pageBytes + rest);
  pages.forEach((byte, page) => {
    // One byte somewhere in the page is enough for it not to be zero.
    if (byte !== null) content[page * pageBytes + ((byte * 37) % pageBytes)] = byte;
  });
  if (rest > 0) content[content.length - 1] = rest % 256;
  return content;
}

/** Writes pages that are not zero; the others are holes. */
export async function writeSparse(path: string, content: Buffer): Promise<void> {
  await using handle = await open(path, "wx");
  await handle.truncate(content.length);
  for (let at = 0; at < content.length; at += pageBytes) {
    const page = content.subarray(at, at + pageBytes);
    if (page.some((byte) => byte !== 0)) await handle.write(page, 0, page.length, at);
  }
}

/** The pages of `after` that differ from `before` (zeros past its end), and one in so many of those that do not. */
export function runsOf(before: Buffer, after: Buffer, generosity?: number): PageRun[] {
  const pageOf = (content: Buffer, page: number) => {
    const whole = Buffer.alloc(pageBytes);
    content.subarray(page * pageBytes, (page + 1) * pageBytes).copy(whole);
    return whole;
  };
  const pages = Array.from({ length: Math.ceil(after.length / pageBytes) }, (_, page) => page);
  return pages
    .filter(
      (page) =>
        (generosity !== undefined && page % generosity === 1) ||
        !pageOf(before, page).equals(pageOf(after, page)),
    )
    .map((page) => ({ page, count: 1 }));
}
