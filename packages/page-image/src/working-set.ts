import { open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import type { PageRun } from "./types.ts";
import { VarintReader, VarintWriter } from "./varint.ts";

/** A stretch of pages that were touched one after the other, of one of a machine's images. */
export interface TouchedRun extends PageRun {
  image: "memory" | "disk";
}

/** The pages that a clone touches from its resume to its first response, in the order of the first touch. */
export type WorkingSet = readonly TouchedRun[];

const magic = Buffer.from("SPOREWS1");
const images = ["memory", "disk"] as const;

/** Bounds that readers hold a file to (docs/formats/working-set.md). */
const limits = {
  runs: 2 ** 22,
  /** The last page of an image of 16 TiB. */
  page: 2 ** 32 - 1,
  /** In all runs together: 16 GiB. */
  pages: 2 ** 22,
} as const;

/**
 * The largest size of a file. The most runs that there may be are of one page each, and take seven bytes at the most:
 * this is twice as much.
 */
export const largestWorkingSetBytes = 64 * 2 ** 20;

/**
 * Encodes a working set (docs/formats/working-set.md). Runs that follow on one another become one, and a page
 * that was named before is left out.
 */
export function encodeWorkingSet(set: WorkingSet): Buffer {
  const runs = firstTouches(set);
  const writer = new VarintWriter();
  writer.bytes(magic);
  writer.number(runs.length);
  const next = { memory: 0, disk: 0 };
  for (const { image, page, count } of runs) {
    // The distance from the end of the last run of the same image is small, and its sign is one bit.
    writer.number((count - 1) * 2 + images.indexOf(image));
    writer.signed(page - next[image]);
    next[image] = page + count;
  }
  return Buffer.from(writer.finish());
}

/**
 * Reads what `encodeWorkingSet` wrote.
 *
 * @param subject names it in errors.
 * @throws SporeletError `corrupt`; `incompatible` for a version that is not known.
 */
export function parseWorkingSet(bytes: Buffer, subject = "the working set"): WorkingSet {
  const context = { operation: "read", subject };
  const fail = (reason: string) => new SporeletError({ ...context, code: "corrupt", reason });
  if (bytes.length > largestWorkingSetBytes) throw fail(`${bytes.length} bytes are absurd for it`);
  if (!bytes.subarray(0, magic.length - 1).equals(magic.subarray(0, -1)))
    throw fail("it does not begin like one");
  if (bytes[magic.length - 1] !== magic.at(-1)) {
    const reason = "it has a version of the format that is not known here";
    throw new SporeletError({ ...context, code: "incompatible", reason, hint: "upgrade Sporelet" });
  }
  const reader = new VarintReader(bytes.subarray(magic.length), fail);
  const total = reader.number("the number of runs", limits.runs);
  // Two bytes at least for each: what cannot be there is refused before room is made for it.
  if (total * 2 > reader.remaining) throw fail(`it is too short for ${total} runs`);
  const runs: TouchedRun[] = [];
  const next = { memory: 0, disk: 0 };
  let pages = 0;
  for (let n = 0; n < total; n++) {
    const head = reader.number("the length of a run", 2 * limits.pages + 1);
    const image = images[head % 2] as TouchedRun["image"];
    const count = Math.floor(head / 2) + 1;
    const page = next[image] + reader.signed("the beginning of a run", limits.page);
    pages += count;
    if (pages > limits.pages) throw fail("it names more pages than a working set has");
    if (page < 0 || page + count - 1 > limits.page) throw fail(`run ${n} is not within an image`);
    runs.push({ image, page, count });
    next[image] = page + count;
  }
  if (reader.remaining > 0) throw fail("there is something behind its end");
  return runs;
}

/**
 * Reads a working set from a file, which may be anybody's: one that is too large is not read at all.
 *
 * @throws SporeletError like `parseWorkingSet`; `not_found`.
 */
export async function readWorkingSet(path: string): Promise<WorkingSet> {
  try {
    await using handle = await open(path, "r");
    const { size } = await handle.stat();
    if (size > largestWorkingSetBytes) {
      const reason = `${size} bytes are absurd for it`;
      throw new SporeletError({ code: "corrupt", operation: "read", subject: path, reason });
    }
    return parseWorkingSet(await handle.readFile(), path);
  } catch (error) {
    throw SporeletError.from(error, { operation: "read", subject: path });
  }
}

/** Leaves out pages that were named before, and merges runs that go on where the last one ended. */
function firstTouches(set: WorkingSet): TouchedRun[] {
  const seen = { memory: new Set<number>(), disk: new Set<number>() };
  const runs: TouchedRun[] = [];
  for (const { image, page, count } of set) {
    for (let one = page; one < page + count; one++) {
      if (seen[image].has(one)) continue;
      seen[image].add(one);
      const last = runs.at(-1);
      if (last?.image === image && last.page + last.count === one) last.count += 1;
      else runs.push({ image, page: one, count: 1 });
    }
  }
  return runs;
}
