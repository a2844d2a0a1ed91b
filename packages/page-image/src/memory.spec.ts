import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { temporaryDirectory } from "@sporelet/host/testing";
import { expect, it } from "vitest";
import { digestOf } from "./index.ts";

const program = new URL("testing/codec-process.ts", import.meta.url).pathname;
const MiB = 2 ** 20;
const small = 16;
const large = 512;

/** Peak memory of a process that does this, bytes. */
async function peakBytes(...words: string[]): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...words]);
  return Number(stdout);
}

/** An image of so many MiB without a zero page, half of which can be compressed. */
async function writeImage(file: string, size: number): Promise<void> {
  await using handle = await open(file, "wx");
  const content = Buffer.alloc(MiB, "what a program has in its memory ");
  for (let at = 0; at < MiB; at += 4096) randomBytes(2048).copy(content, at);
  for (let n = 0; n < size; n++) {
    content.writeUInt32LE(n + 1);
    await handle.write(content, 0, MiB, n * MiB);
  }
}

it(`takes no more memory for an image of ${large} MiB than for one of ${small}`, async () => {
  await using directory = await temporaryDirectory();
  const at = (name: string) => path.join(directory.path, name);
  const peaks: Record<string, number[]> = { encode: [], decode: [], digest: [] };
  for (const size of [small, large]) {
    const image = at(`image-${size}`);
    await writeImage(image, size);
    peaks.encode?.push(await peakBytes("encode", image, at(`blob-${size}`)));
    peaks.decode?.push(await peakBytes("decode", at(`blob-${size}`), at(`flat-${size}`)));
    peaks.digest?.push(await peakBytes("digest", image));
    expect((await digestOf(at(`flat-${size}`))).digest).toBe((await digestOf(image)).digest);
  }
  for (const [task, [little = Number.NaN, much = Number.NaN]] of Object.entries(peaks)) {
    expect(little, task).toBeGreaterThan(20 * MiB);
    // Of both it keeps a few frames in flight, and the index: 40 bytes for each MiB.
    expect((much - little) / MiB, task).toBeLessThan(24);
  }
});
