/**
 * Changed pages of a memory in one stretch, in the order in which they were taken.
 *
 * To sync a file that shares its blocks takes long when it was changed in many places: each run of pages is a write,
 * an extent and a transaction (31 MiB in 3,400 runs: 200 to 300 ms, next to 30 to 60 for the same bytes in one run;
 * XFS on a loop device, Linux 6.18). So a memory whose process waits for its end is written but not synced; its
 * journal is, and is needed only when the host goes down before the memory has found its way to the disk.
 *
 *   the pages
 *   the index   for each stretch its offset in the memory and its length, u64; those without content, zeros, last
 *   the end     "SPOREPGS", the boot of the host (36 characters, boot_id of random(4)), then u64: bytes of pages,
 *               number of stretches with content, number of those without
 *
 * All numbers are little-endian. A journal is read by the host that wrote it, so it has no version.
 */
import { type FileHandle, open, readFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { type Extent, type FilePiece, openOverlay, writeFully } from "@sporelet/host";

const mark = Buffer.from("SPOREPGS");
const bootBytes = 36;
const numbersAt = mark.length + bootBytes;
const endBytes = numbersAt + 3 * 8;
const entryBytes = 16;
/** So much is in memory at a time when a journal is applied. */
const batchBytes = 8 * 1024 * 1024;
/** As writev(2) takes. */
const maxBuffers = 1024;

/**
 * Creates a journal, not synced.
 * @param batches pieces are valid until the next ones are asked for
 */
export async function writePageJournal(
  path: string,
  batches: Iterable<readonly FilePiece[]>,
  zeroed: readonly Extent[],
): Promise<void> {
  await using to = await open(path, "wx", 0o600);
  const runs: Extent[] = [];
  let position = 0;
  for (const pieces of batches) {
    for (let first = 0; first < pieces.length; first += maxBuffers) {
      const buffers = pieces.slice(first, first + maxBuffers).map(({ content }) => content);
      position += await writeAll(to, buffers, position);
    }
    for (const { offset, content } of pieces) runs.push({ offset, length: content.length });
  }
  const tail = Buffer.alloc((runs.length + zeroed.length) * entryBytes + endBytes);
  let at = 0;
  for (const { offset, length } of [...runs, ...zeroed]) {
    at = tail.writeBigUInt64LE(BigInt(offset), at);
    at = tail.writeBigUInt64LE(BigInt(length), at);
  }
  at += mark.copy(tail, at);
  at += tail.write(await thisBoot(), at, bootBytes, "latin1");
  for (const number of [position, runs.length, zeroed.length]) {
    at = tail.writeBigUInt64LE(BigInt(number), at);
  }
  await writeFully(to, tail, 0, tail.length, position);
}

/** One writev(2) may take less than all of it. @returns how many bytes there were */
async function writeAll(to: FileHandle, buffers: Buffer[], position: number): Promise<number> {
  const length = buffers.reduce((sum, each) => sum + each.length, 0);
  const { bytesWritten } = await to.writev(buffers, position);
  if (bytesWritten < length) {
    const rest = Buffer.concat(buffers).subarray(bytesWritten);
    await writeFully(to, rest, 0, rest.length, position + bytesWritten);
  }
  return length;
}

/**
 * Puts the pages of a journal into the memory that they belong to, if the host was started since: the memory is only
 * known to be on the disk when it was synced. To do that again, after it was interrupted or not, changes nothing.
 *
 * @param target the memory; not synced
 * @returns whether they were put there
 * @throws SporeletError `not_found`, `corrupt`, `resource_exhausted`, `cancelled`
 */
export async function applyPageJournal(path: string, target: string, signal?: AbortSignal): Promise<boolean> {
  try {
    await using from = await open(path, "r");
    const { boot, runs, zeroed } = await readIndex(from);
    if (boot === (await thisBoot())) return false;
    await using overlay = await openOverlay(target, target);
    let position = 0;
    for (const batch of batchesOf(runs)) {
      signal?.throwIfAborted();
      const bytes = batch.reduce((sum, { length }) => sum + length, 0);
      const buffer = await readFully(from, bytes, position);
      position += bytes;
      let at = 0;
      const pieces = batch.map(({ offset, length }) => {
        at += length;
        return { offset, content: buffer.subarray(at - length, at) };
      });
      await overlay.put(pieces);
    }
    for (const { offset, length } of zeroed) await overlay.clear(offset, length);
    return true;
  } catch (error) {
    throw SporeletError.from(error, { operation: "apply the changed pages of", subject: path });
  }
}

async function thisBoot(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "latin1")).trim();
}

async function readIndex(from: FileHandle): Promise<{ boot: string; runs: Extent[]; zeroed: Extent[] }> {
  const { size } = await from.stat();
  if (size < endBytes) throw damaged("it is cut off");
  const end = await readFully(from, endBytes, size - endBytes);
  if (!end.subarray(0, mark.length).equals(mark)) throw damaged("it has no end");
  const number = (index: number) => Number(end.readBigUInt64LE(numbersAt + index * 8));
  const [contentBytes, runCount, zeroCount] = [number(0), number(1), number(2)];
  if (contentBytes + (runCount + zeroCount) * entryBytes + endBytes !== size) {
    throw damaged("its parts do not add up to its size");
  }
  const index = await readFully(from, (runCount + zeroCount) * entryBytes, contentBytes);
  const extents: Extent[] = [];
  for (let at = 0; at < index.length; at += entryBytes) {
    extents.push({
      offset: Number(index.readBigUInt64LE(at)),
      length: Number(index.readBigUInt64LE(at + 8)),
    });
  }
  const runs = extents.slice(0, runCount);
  if (runs.reduce((sum, { length }) => sum + length, 0) !== contentBytes) {
    throw damaged("its index does not agree with its pages");
  }
  const boot = end.toString("latin1", mark.length, numbersAt);
  return { boot, runs, zeroed: extents.slice(runCount) };
}

function damaged(reason: string): SporeletError {
  return new SporeletError({ code: "corrupt", operation: "read", reason });
}

/** In order, each with no more than fits into memory; runs that are longer come in parts. */
function* batchesOf(runs: readonly Extent[]): Generator<Extent[]> {
  let batch: Extent[] = [];
  let room = batchBytes;
  for (let { offset, length } of runs) {
    while (length > 0) {
      const part = Math.min(length, room);
      batch.push({ offset, length: part });
      offset += part;
      length -= part;
      room -= part;
      if (room > 0) continue;
      yield batch;
      batch = [];
      room = batchBytes;
    }
  }
  if (batch.length > 0) yield batch;
}

async function readFully(from: FileHandle, length: number, position: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await from.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) throw damaged("it is cut off");
    done += bytesRead;
  }
  return buffer;
}
