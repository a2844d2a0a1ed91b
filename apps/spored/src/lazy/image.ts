import { readSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { pageBytes } from "@sporelet/host";
import { type FlatImage, writeFrame } from "@sporelet/page-image";

/** A flat image that fills up: pages of frames that have come are in its file, all others are not. */
export interface FillingImage extends AsyncDisposable {
  readonly fd: number;
  readonly imageBytes: number;
  /** Positions in the flat image's `frames` of those that a range needs and that are not there yet. */
  missing(offset: number, bytes: number): number[];
  /** Puts a decoded frame where it belongs. */
  put(position: number, raw: Buffer): Promise<void>;
  /** Reads what is there; what is not reads as zeros. */
  read(offset: number, target: Buffer): void;
  /** Makes what is there durable. */
  sync(): Promise<void>;
}

/** @param path of the file, which is made. */
export async function createFillingImage(path: string, flat: FlatImage): Promise<FillingImage> {
  const file: FileHandle = await open(path, "wx+", 0o600);
  await file.truncate(flat.imageBytes);
  const there = new Uint8Array(flat.frames.length);
  let absent = flat.frames.length;
  return {
    fd: file.fd,
    imageBytes: flat.imageBytes,
    missing(offset, bytes) {
      const found = new Set<number>();
      const last = absent === 0 ? -1 : Math.floor((offset + bytes - 1) / pageBytes);
      for (let page = Math.floor(offset / pageBytes); page <= last; page++) {
        const position = flat.frameOf(page);
        if (position !== undefined && !there[position]) found.add(position);
      }
      return [...found];
    },
    async put(position, raw) {
      const frame = flat.frames[position];
      if (frame === undefined || there[position]) return;
      await writeFrame(file, frame, raw);
      if (there[position]) return;
      there[position] = 1;
      absent -= 1;
    },
    read: (offset, target) => readFully(file.fd, offset, target),
    sync: () => file.sync(),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** @throws when the file ends before: it was cut off by someone else. */
export function readFully(fd: number, offset: number, target: Buffer): void {
  for (let done = 0; done < target.length; ) {
    const bytes = readSync(fd, target, done, target.length - done, offset + done);
    if (bytes === 0) throw new Error(`the file ends at ${offset + done}`);
    done += bytes;
  }
}
