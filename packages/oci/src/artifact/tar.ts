/**
 * A tar archive and a gzip stream whose bytes depend on nothing but their content: no times, no owners, no
 * compressor whose output changes between versions. For the few kilobytes of the launcher's layer.
 */
import { crc32 } from "node:zlib";

export interface TarEntry {
  /** Relative, without `..`; of directories too without a slash at the end. At most 99 bytes. */
  path: string;
  /** Absent: a directory. */
  content?: string;
  mode: number;
}

const blockBytes = 512;

/** A POSIX ustar archive, its entries in the given order. */
export function tar(entries: readonly TarEntry[]): Buffer {
  const parts = entries.flatMap(({ path, content, mode }) => {
    const data = Buffer.from(content ?? "");
    return [
      header(path, content === undefined, data.length, mode),
      data,
      Buffer.alloc(-data.length & (blockBytes - 1)),
    ];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * blockBytes)]);
}

function header(path: string, directory: boolean, size: number, mode: number): Buffer {
  const name = directory ? `${path}/` : path;
  if (Buffer.byteLength(name) >= 100) throw new RangeError(`too long for a tar header: ${name}`);
  const block = Buffer.alloc(blockBytes);
  const octal = (value: number, offset: number, length: number) =>
    block.write(value.toString(8).padStart(length - 1, "0"), offset);
  block.write(name, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8); // uid
  octal(0, 116, 8); // gid
  octal(size, 124, 12);
  octal(0, 136, 12); // mtime
  block.fill(" ", 148, 156); // the checksum counts its own field as spaces
  block.write(directory ? "5" : "0", 156);
  block.write("ustar\x0000", 257);
  const checksum = block.reduce((sum, byte) => sum + byte, 0);
  block.write(`${checksum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

/**
 * A gzip stream (RFC 1952) of stored blocks (RFC 1951, 3.2.4). zlib's output differs between its versions and
 * the processors that it has code for; stored blocks do not, and the layer is small.
 */
export function storedGzip(content: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])];
  const longest = 0xffff;
  for (let offset = 0; offset === 0 || offset < content.length; offset += longest) {
    const data = content.subarray(offset, offset + longest);
    const head = Buffer.alloc(5);
    head.writeUInt8(offset + longest >= content.length ? 1 : 0, 0);
    head.writeUInt16LE(data.length, 1);
    head.writeUInt16LE(~data.length & 0xffff, 3);
    parts.push(head, data);
  }
  const tail = Buffer.alloc(8);
  tail.writeUInt32LE(crc32(content), 0);
  tail.writeUInt32LE(content.length % 2 ** 32, 4);
  return Buffer.concat([...parts, tail]);
}
