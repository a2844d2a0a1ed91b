/**
 * The golden files: two blobs that are a chain, which readers of all later versions have to read.
 * `node packages/page-image/src/testing/golden.ts` makes them anew; their bytes depend on the version of zstd.
 */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { encodeBlob } from "../encode.ts";
import { pageBytes } from "./images.ts";

export const goldenDirectory = join(import.meta.dirname, "golden");
export const goldenNames = ["base.blob", "delta.blob"] as const;

/** A page of one word again and again. */
function page(word: string): Buffer {
  return Buffer.alloc(pageBytes, `${word} `);
}

const zero = Buffer.alloc(pageBytes);
const end = Buffer.from("an unfinished page");

/** The images: the child has another page 0, zeros in pages 3 and 4, and a page 6. */
export const goldenImages: readonly [Buffer, Buffer] = [
  Buffer.concat([
    page("zero"),
    zero,
    page("two"),
    page("three"),
    page("four"),
    zero,
    zero,
    page("seven"),
    end,
  ]),
  Buffer.concat([page("nought"), zero, page("two"), zero, zero, zero, page("six"), page("seven"), end]),
];

/** Encodes the images to a directory. Frames have two pages, and page 7 is wanted first. */
export async function encodeGolden(directory: string): Promise<void> {
  await using workspace = await temporaryDirectory();
  const image = (n: number) => join(workspace.path, `image${n}`);
  for (const [n, name] of goldenNames.entries()) {
    await writeFile(image(n), goldenImages[n] ?? zero);
    const target = join(directory, name);
    await rm(target, { force: true });
    await encodeBlob({
      image: image(n),
      base: n > 0 ? image(n - 1) : undefined,
      first: [{ page: 7, count: 1 }],
      frameBytes: 2 * pageBytes,
      target,
    });
  }
}

if (import.meta.main) await encodeGolden(goldenDirectory);
