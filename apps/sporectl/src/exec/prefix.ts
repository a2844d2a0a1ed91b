import type { Writable } from "node:stream";
import { write } from "../cli/io.ts";

/** Writes whole lines, each after a head; binary-safe but for the heads. */
export interface Prefixer {
  write(data: Uint8Array): Promise<void>;
  /** Writes a last line that has no end. */
  end(): Promise<void>;
}

const newline = 10;

export function createPrefixer(stream: Writable, head: string): Prefixer {
  let rest: Buffer = Buffer.alloc(0);
  return {
    async write(data) {
      const lines: Uint8Array[] = [];
      const all = Buffer.concat([rest, data]);
      let begin = 0;
      for (let end = all.indexOf(newline); end >= 0; end = all.indexOf(newline, begin)) {
        lines.push(Buffer.from(head), all.subarray(begin, end + 1));
        begin = end + 1;
      }
      rest = all.subarray(begin);
      if (lines.length > 0) await write(stream, Buffer.concat(lines));
    },
    async end() {
      if (rest.length > 0) await write(stream, Buffer.concat([Buffer.from(head), rest, Buffer.of(newline)]));
      rest = Buffer.alloc(0);
    },
  };
}
