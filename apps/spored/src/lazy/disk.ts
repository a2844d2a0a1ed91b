import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import type { FuseAccess, FuseFile } from "@sporelet/host";
import { cloneRange, pageBytes, punchHole, seekData, seekHole } from "@sporelet/host";
import { type BlockMap, createBlockMap } from "./block-map.ts";
import { readFully } from "./image.ts";

/** What lies below a machine's own blocks. */
export interface DiskBase {
  readonly fd: number;
  readonly imageBytes: number;
  read(offset: number, target: Buffer): void;
  /** Undefined when a range is there, else what fetches it. */
  ready(offset: number, bytes: number, access: FuseAccess): Promise<void> | undefined;
}

/** The disk of one machine: blocks that it wrote, over a base that is still being fetched. */
export interface MachineDisk extends FuseFile, Disposable {
  /**
   * Takes over what is the base's still, as shared blocks where the file system can: from then on the file is
   * the whole disk. The base has to be there as a whole.
   */
  consolidate(): Promise<void>;
}

/** Taken over at a time; in between the machine is answered. */
const stepPages = (64 * 1024 * 1024) / pageBytes;

/** @param path of a file that is made for it. */
export function createMachineDisk(path: string, base: DiskBase): MachineDisk {
  const { imageBytes } = base;
  const fd = openSync(path, "wx+", 0o600);
  ftruncateSync(fd, imageBytes);
  const own = createBlockMap(Math.ceil(imageBytes / pageBytes));
  const page = Buffer.alloc(pageBytes);
  let whole = false;

  /** Before a part of a page is changed: the rest of it becomes the machine's own too. */
  const adopt = (number: number) => {
    if (own.has(number)) return;
    const offset = number * pageBytes;
    const content = page.subarray(0, Math.min(pageBytes, imageBytes - offset));
    base.read(offset, content);
    writeFully(fd, content, offset);
    own.add(number, number + 1);
  };
  const edges = (offset: number, bytes: number) => {
    const end = offset + bytes;
    const first = Math.floor(offset / pageBytes);
    const last = Math.floor((end - 1) / pageBytes);
    const cutFirst =
      offset % pageBytes !== 0 || (first === last && end % pageBytes !== 0 && end < imageBytes);
    const cutLast = last !== first && end % pageBytes !== 0 && end < imageBytes;
    return { first, last, cut: [...(cutFirst ? [first] : []), ...(cutLast ? [last] : [])] };
  };
  const change = (offset: number, bytes: number, act: () => void) => {
    if (bytes === 0) return;
    const { first, last, cut } = edges(offset, bytes);
    for (const number of cut) adopt(number);
    act();
    own.add(first, last + 1);
  };

  return {
    sizeBytes: imageBytes,
    writable: true,
    cached: false,
    ready(access) {
      if (whole) return undefined;
      const { kind, offset, bytes } = access;
      if (kind === "read") return waitForBase(own, base, offset, bytes, access);
      const needed = edges(offset, bytes).cut.filter((number) => !own.has(number));
      const waits = needed.flatMap((number) => {
        const start = number * pageBytes;
        return base.ready(start, Math.min(pageBytes, imageBytes - start), access) ?? [];
      });
      return waits.length === 0 ? undefined : Promise.all(waits).then(() => {});
    },
    read(offset, target) {
      if (whole) return readFully(fd, offset, target);
      eachStretch(own, offset, target.length, (from, to, isOwn) => {
        const part = target.subarray(from - offset, to - offset);
        if (isOwn) readFully(fd, from, part);
        else base.read(from, part);
      });
    },
    write: (offset, data) => change(offset, data.length, () => writeFully(fd, data, offset)),
    discard: (offset, bytes) => change(offset, bytes, () => punchHole(fd, offset, bytes)),
    seek(offset, what) {
      // Before the disk is whole nothing is known of what the base does not have yet.
      if (!whole) return what === "data" ? offset : imageBytes;
      return what === "data" ? seekData(fd, offset) : (seekHole(fd, offset) ?? imageBytes);
    },
    async consolidate() {
      for (let from = 0; ; ) {
        const stretch = own.nextAbsent(from, stepPages);
        if (stretch === undefined) break;
        const offset = stretch.from * pageBytes;
        const bytes = Math.min(stretch.to * pageBytes, imageBytes) - offset;
        if (!cloneRange(base.fd, fd, offset, bytes)) copyData(base.fd, fd, offset, bytes);
        own.add(stretch.from, stretch.to);
        from = stretch.to;
        await new Promise((resolve) => setImmediate(resolve));
      }
      whole = true;
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

function waitForBase(
  own: BlockMap,
  base: DiskBase,
  offset: number,
  bytes: number,
  access: FuseAccess,
): Promise<void> | undefined {
  const waits: Promise<void>[] = [];
  eachStretch(own, offset, bytes, (from, to, isOwn) => {
    const wait = isOwn ? undefined : base.ready(from, to - from, access);
    if (wait !== undefined) waits.push(wait);
  });
  return waits.length === 0 ? undefined : Promise.all(waits).then(() => {});
}

/** Cuts a range of bytes where pages that are in the map border on pages that are not. */
function eachStretch(
  own: BlockMap,
  offset: number,
  bytes: number,
  visit: (from: number, to: number, isOwn: boolean) => void,
): void {
  const end = offset + bytes;
  for (let from = offset; from < end; ) {
    let number = Math.floor(from / pageBytes);
    const isOwn = own.has(number);
    do number += 1;
    while (number * pageBytes < end && own.has(number) === isOwn);
    const to = Math.min(end, number * pageBytes);
    visit(from, to, isOwn);
    from = to;
  }
}

const copyBytes = 1024 * 1024;

/** What a file system without reflinks takes longer for. */
function copyData(source: number, target: number, offset: number, bytes: number): void {
  const buffer = Buffer.allocUnsafe(Math.min(copyBytes, bytes));
  const end = offset + bytes;
  for (let at = seekData(source, offset); at !== undefined && at < end; at = seekData(source, at)) {
    const stop = Math.min(end, seekHole(source, at) ?? end);
    for (; at < stop; at += copyBytes) {
      const part = buffer.subarray(0, Math.min(copyBytes, stop - at));
      readFully(source, at, part);
      writeFully(target, part, at);
    }
    at = stop;
  }
}

function writeFully(fd: number, data: Buffer, position: number): void {
  for (let done = 0; done < data.length; ) {
    done += writeSync(fd, data, done, data.length - done, position + done);
  }
}
