import { pageBytes } from "@sporelet/host";
import type { BlobFrame, BlobIndex } from "./blob-index.ts";
import type { ChainBudget } from "./chain.ts";
import { frameBound, limits, pagesIn } from "./format.ts";
import type { Digest, PageRun } from "./types.ts";
import { VarintReader, VarintWriter } from "./varint.ts";

const digestBytes = 32;

/** The index as a record, before it is compressed. Its frames follow one another from the blob's first byte. */
export function encodeIndexRecord(index: BlobIndex): Buffer {
  const writer = new VarintWriter();
  writer.number(index.imageBytes);
  writer.number(index.frames.length);
  writer.number(index.hotFrames);
  for (const { sizeBytes } of index.frames) writer.number(sizeBytes);
  let end = 0;
  for (const { runs } of index.frames) {
    writer.number(runs.length);
    runs.forEach(({ page, count }, i) => {
      // Frames may go back in the image; runs within a frame go on, and do not adjoin.
      if (i === 0) writer.signed(page - end);
      else writer.number(page - end - 1);
      writer.number(count - 1);
      end = page + count;
    });
  }
  writer.number(index.zeroRuns.length);
  end = -1;
  for (const { page, count } of index.zeroRuns) {
    writer.number(page - end - 1);
    writer.number(count - 1);
    end = page + count;
  }
  for (const { digest } of index.frames) writer.bytes(Buffer.from(digest.slice("sha256:".length), "hex"));
  return writer.finish();
}

/** Makes errors about an index. */
export interface IndexErrors {
  fail(reason: string): Error;
  tooLarge(what: keyof ChainBudget): Error;
}

/**
 * Reads a record, and holds it to the format: sizes within limits, frames within the blob, runs within the image,
 * no page twice.
 *
 * @param framesBytes size of all frames together: what lies before the index.
 * @param budget what its chain leaves for it; it is not changed.
 * @param errors makes the error to throw: for a record that is damaged, and for one that is too much for its chain.
 */
export function parseIndexRecord(
  record: Buffer,
  framesBytes: number,
  budget: Readonly<ChainBudget>,
  { fail, tooLarge }: IndexErrors,
): BlobIndex {
  const reader = new VarintReader(record, fail);
  const imageBytes = reader.number("the size of the image", limits.imageBytes);
  const imagePages = pagesIn(imageBytes);
  const frameCount = reader.number("the number of frames", limits.frames);
  if (frameCount * (digestBytes + 4) > reader.remaining)
    throw fail(`it has no room for ${frameCount} frames`);
  if (frameCount > budget.frames) throw tooLarge("frames");
  const hotFrames = reader.number("the number of hot frames", frameCount);
  const sizes = Array.from({ length: frameCount }, (_, n) =>
    reader.number(`the size of frame ${n}`, frameBound(limits.frameBytes)),
  );
  let left = budget.runs;
  /** Before room is made for them. */
  const take = (runCount: number) => {
    left -= runCount;
    if (left < 0) throw tooLarge("runs");
  };
  const runs = parseFrameRuns(reader, { frameCount, imagePages, take, fail });
  const zeroRuns = parseZeroRuns(reader, { imagePages, take, fail });
  let offset = 0;
  let dataBytes = 0;
  const frames = sizes.map((sizeBytes, n): BlobFrame => {
    const own = runs[n] ?? [];
    const rawBytes = own.reduce((sum, { count }) => sum + count, 0) * pageBytes;
    if (sizeBytes === 0 || sizeBytes > frameBound(rawBytes)) {
      throw fail(`frame ${n} cannot have ${sizeBytes} bytes for ${rawBytes} bytes of pages`);
    }
    const digest: Digest = `sha256:${reader.bytes(`the digest of frame ${n}`, digestBytes).toString("hex")}`;
    const frame = { offset, sizeBytes, rawBytes, digest, runs: own };
    offset += sizeBytes;
    dataBytes += rawBytes;
    return frame;
  });
  if (offset !== framesBytes) {
    throw fail(`its frames have ${offset} bytes, but the index begins at byte ${framesBytes} of the blob`);
  }
  if (reader.remaining > 0) throw fail(`${reader.remaining} bytes follow its index`);
  rejectRepeatedPages(runs, zeroRuns, fail);
  const zeroBytes = zeroRuns.reduce((sum, { count }) => sum + count, 0) * pageBytes;
  return { imageBytes, frames, hotFrames, zeroRuns, dataBytes, zeroBytes };
}

interface RunLimits {
  imagePages: number;
  take(runCount: number): void;
  fail(reason: string): Error;
}

function parseFrameRuns(
  reader: VarintReader,
  { frameCount, imagePages, take, fail }: RunLimits & { frameCount: number },
): PageRun[][] {
  let room = limits.runs;
  let end = 0;
  return Array.from({ length: frameCount }, (_, n) => {
    const where = `frame ${n}`;
    const runCount = reader.number(`the number of runs of ${where}`, limits.frameBytes / pageBytes);
    room -= runCount;
    if (room < 0) throw fail(`it has more than ${limits.runs} runs`);
    take(runCount);
    if (runCount === 0) throw fail(`${where} has no pages`);
    const runs: PageRun[] = [];
    let pages = 0;
    for (let i = 0; i < runCount; i++) {
      const page =
        i === 0
          ? end + reader.signed(`the first page of ${where}`, imagePages)
          : end + reader.number(`a page of ${where}`, imagePages) + 1;
      const count = reader.number(`the length of a run of ${where}`, limits.frameBytes / pageBytes) + 1;
      pages += count;
      end = page + count;
      if (page < 0 || end > imagePages) throw fail(`${where} has page ${page}, which is not in the image`);
      if (pages * pageBytes > limits.frameBytes)
        throw fail(`${where} has more than ${limits.frameBytes} bytes`);
      runs.push({ page, count });
    }
    return runs;
  });
}

function parseZeroRuns(reader: VarintReader, { imagePages, take, fail }: RunLimits): PageRun[] {
  const runCount = reader.number("the number of zero runs", limits.runs);
  // Two bytes are the least that a run takes.
  if (runCount * 2 > reader.remaining) throw fail(`it has no room for ${runCount} zero runs`);
  take(runCount);
  let end = -1;
  return Array.from({ length: runCount }, () => {
    const page = end + 1 + reader.number("a zero page", imagePages);
    const count = reader.number("the length of a zero run", imagePages) + 1;
    end = page + count;
    if (end > imagePages) throw fail(`the zero page ${page} is not in the image`);
    return { page, count };
  });
}

/** A page has one place in a blob: readers may decode frames in any order, and side by side. */
function rejectRepeatedPages(
  frames: readonly PageRun[][],
  zeroRuns: readonly PageRun[],
  fail: (reason: string) => Error,
): void {
  // As numbers, for a sort without calls: a page is below 2^32, a run at most 2^10 long.
  const keys = new Float64Array(frames.reduce((sum, runs) => sum + runs.length, 0));
  let n = 0;
  for (const runs of frames) for (const { page, count } of runs) keys[n++] = page * 2 ** 11 + count;
  keys.sort();
  let end = 0;
  let zero = 0;
  for (const key of keys) {
    const page = Math.floor(key / 2 ** 11);
    if (page < end) throw fail(`page ${page} is in it twice`);
    end = page + (key % 2 ** 11);
    for (let run = zeroRuns[zero]; run !== undefined && run.page < end; run = zeroRuns[zero]) {
      if (run.page + run.count > page) throw fail(`page ${Math.max(page, run.page)} is in it twice`);
      zero++;
    }
  }
}
