/**
 * The messages between the kernel's FUSE and a file system's process, as in include/uapi/linux/fuse.h of
 * Linux 6.1. Pure: bytes in, values out, and the other way round. All fields are in host byte order, which is
 * little-endian on the architectures that Sporelet runs on.
 */
import { constants } from "node:os";

/** Requests that are understood; all others are answered with ENOSYS, which the kernel remembers. */
export const opcode = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  fallocate: 43,
  lseek: 46,
} as const;

export const rootId = 1;

/** struct fuse_in_header and struct fuse_out_header. */
const inHeaderBytes = 40;
export const outHeaderBytes = 16;

export interface Request {
  opcode: number;
  /** Names the request in its answer. The kernel counts them up by two, so that a double holds them. */
  unique: number;
  nodeId: number;
  /** The thread that asks, as this process's pid namespace has it; 0 for the kernel itself. */
  pid: number;
  /** What follows the header; valid until the next request is read. */
  body: Buffer;
}

/** @throws RangeError for what no kernel sends. */
export function parseRequest(message: Buffer): Request {
  const length = message.readUInt32LE(0);
  if (length < inHeaderBytes || length > message.length)
    throw new RangeError(`FUSE request of ${length} bytes`);
  return {
    opcode: message.readUInt32LE(4),
    unique: Number(message.readBigUInt64LE(8)),
    nodeId: Number(message.readBigUInt64LE(16)),
    pid: message.readUInt32LE(32),
    body: message.subarray(inHeaderBytes, length),
  };
}

/** Writes struct fuse_out_header. @param errno 0, or positive as in errno(3) */
export function writeOutHeader(target: Buffer, length: number, unique: number, errno = 0): void {
  target.writeUInt32LE(length, 0);
  target.writeInt32LE(-errno, 4);
  target.writeBigUInt64LE(BigInt(unique), 8);
}

/** An answer without data. */
export function emptyReply(unique: number, errno = 0): Buffer {
  const reply = Buffer.alloc(outHeaderBytes);
  writeOutHeader(reply, outHeaderBytes, unique, errno);
  return reply;
}

function reply(unique: number, bodyBytes: number, fill: (body: Buffer) => void): Buffer {
  const message = Buffer.alloc(outHeaderBytes + bodyBytes);
  writeOutHeader(message, message.length, unique);
  fill(message.subarray(outHeaderBytes));
  return message;
}

export const protocolMajor = 7;
/** 7.31, Linux 5.4: the oldest with all that is used here. A newer kernel speaks it too. */
export const protocolMinor = 31;

export interface InitRequest {
  major: number;
  minor: number;
  maxReadaheadBytes: number;
  flags: number;
}

export function parseInit(body: Buffer): InitRequest {
  return {
    major: body.readUInt32LE(0),
    minor: body.readUInt32LE(4),
    maxReadaheadBytes: body.readUInt32LE(8),
    flags: body.readUInt32LE(12),
  };
}

/** FUSE_ASYNC_READ, FUSE_BIG_WRITES, FUSE_ASYNC_DIO, FUSE_PARALLEL_DIROPS, FUSE_ABORT_ERROR, FUSE_MAX_PAGES. */
const wantedFlags = (1 << 0) | (1 << 5) | (1 << 15) | (1 << 18) | (1 << 21) | (1 << 22);

export interface InitOptions {
  /** How much of a file the kernel reads ahead. 0: exactly what is asked for. */
  maxReadaheadBytes: number;
  /** The largest READ and WRITE; up to 1 MiB. */
  maxTransferBytes: number;
}

export function initReply(unique: number, request: InitRequest, options: InitOptions): Buffer {
  return reply(unique, 64, (body) => {
    body.writeUInt32LE(protocolMajor, 0);
    body.writeUInt32LE(protocolMinor, 4);
    body.writeUInt32LE(Math.min(request.maxReadaheadBytes, options.maxReadaheadBytes), 8);
    body.writeUInt32LE((request.flags & wantedFlags) >>> 0, 12);
    body.writeUInt16LE(64, 16); // max_background: requests that nobody waits for, at a time
    body.writeUInt16LE(48, 18); // congestion_threshold
    body.writeUInt32LE(options.maxTransferBytes, 20);
    body.writeUInt32LE(1, 24); // time_gran
    body.writeUInt16LE(options.maxTransferBytes / 4096, 28); // max_pages
  });
}

/** The first message to a kernel of another major version: it then begins anew. */
export function versionReply(unique: number): Buffer {
  return reply(unique, 64, (body) => body.writeUInt32LE(protocolMajor, 0));
}

export interface Attributes {
  nodeId: number;
  sizeBytes: number;
  /** File type and permissions, as in stat(2). */
  mode: number;
}

/** Long: neither sizes nor modes ever change. */
const attributesValidSeconds = 3600n;

function writeAttributes(target: Buffer, { nodeId, sizeBytes, mode }: Attributes): void {
  target.writeBigUInt64LE(BigInt(nodeId), 0);
  target.writeBigUInt64LE(BigInt(sizeBytes), 8);
  target.writeBigUInt64LE(BigInt(Math.ceil(sizeBytes / 512)), 16);
  target.writeUInt32LE(mode, 60);
  target.writeUInt32LE(1, 64); // nlink
  target.writeUInt32LE(process.getuid?.() ?? 0, 68);
  target.writeUInt32LE(process.getgid?.() ?? 0, 72);
  target.writeUInt32LE(4096, 80); // blksize
}

/** struct fuse_entry_out. The name is asked for again each time, so that a file that was taken away is gone. */
export function entryReply(unique: number, attributes: Attributes): Buffer {
  return reply(unique, 128, (body) => {
    body.writeBigUInt64LE(BigInt(attributes.nodeId), 0);
    body.writeBigUInt64LE(attributesValidSeconds, 24);
    writeAttributes(body.subarray(40), attributes);
  });
}

/** struct fuse_attr_out. */
export function attributesReply(unique: number, attributes: Attributes): Buffer {
  return reply(unique, 104, (body) => {
    body.writeBigUInt64LE(attributesValidSeconds, 0);
    writeAttributes(body.subarray(16), attributes);
  });
}

/** FATTR_SIZE of struct fuse_setattr_in. */
export function parseSetattr(body: Buffer): { sizeBytes?: number } {
  return body.readUInt32LE(0) & (1 << 3) ? { sizeBytes: Number(body.readBigUInt64LE(16)) } : {};
}

/** parallelDirectWrites: from 7.38, Linux 6.2; older kernels ignore it and write to a file one after the other. */
export const openFlag = { directIo: 1 << 0, keepCache: 1 << 1, parallelDirectWrites: 1 << 6 } as const;

/** struct fuse_open_out. File handles are not needed: a node's id says all. */
export function openReply(unique: number, flags: number): Buffer {
  return reply(unique, 16, (body) => body.writeUInt32LE(flags, 8));
}

export interface Range {
  offset: number;
  bytes: number;
}

/** struct fuse_read_in, for READ and READDIR. */
export function parseRead(body: Buffer): Range {
  return { offset: Number(body.readBigUInt64LE(8)), bytes: body.readUInt32LE(16) };
}

/** struct fuse_write_in and the data after it. */
export function parseWrite(body: Buffer): { offset: number; data: Buffer } {
  const bytes = body.readUInt32LE(16);
  return { offset: Number(body.readBigUInt64LE(8)), data: body.subarray(40, 40 + bytes) };
}

export function writeReply(unique: number, bytes: number): Buffer {
  return reply(unique, 8, (body) => body.writeUInt32LE(bytes, 0));
}

/** struct fuse_fallocate_in. */
export function parseFallocate(body: Buffer): Range & { mode: number } {
  return {
    offset: Number(body.readBigUInt64LE(8)),
    bytes: Number(body.readBigUInt64LE(16)),
    mode: body.readUInt32LE(24),
  };
}

/** fallocate(2): FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE. */
export const punchHoleMode = 3;

/** struct fuse_lseek_in: only SEEK_DATA (3) and SEEK_HOLE (4) are sent. */
export function parseLseek(body: Buffer): { offset: number; whence: number } {
  return { offset: Number(body.readBigUInt64LE(8)), whence: body.readUInt32LE(16) };
}

export function lseekReply(unique: number, offset: number): Buffer {
  return reply(unique, 8, (body) => body.writeBigUInt64LE(BigInt(offset), 0));
}

/** The request that is to be interrupted. */
export function parseInterrupt(body: Buffer): number {
  return Number(body.readBigUInt64LE(0));
}

/** struct fuse_kstatfs of a file system that has no space of its own. */
export function statfsReply(unique: number): Buffer {
  return reply(unique, 80, (body) => {
    body.writeUInt32LE(4096, 40); // bsize
    body.writeUInt32LE(255, 44); // namelen
    body.writeUInt32LE(4096, 48); // frsize
  });
}

export interface DirectoryEntry {
  nodeId: number;
  name: string;
}

const regularFileType = 8; // DT_REG

/** struct fuse_dirent for each entry from `offset` on, as many as fit. */
export function readdirReply(
  unique: number,
  entries: readonly DirectoryEntry[],
  { offset, bytes }: Range,
): Buffer {
  const parts: Buffer[] = [];
  let total = 0;
  for (const [index, { nodeId, name }] of entries.entries()) {
    if (index < offset) continue;
    const text = Buffer.from(name);
    const part = Buffer.alloc(Math.ceil((24 + text.length) / 8) * 8);
    part.writeBigUInt64LE(BigInt(nodeId), 0);
    part.writeBigUInt64LE(BigInt(index + 1), 8); // Where the next call goes on.
    part.writeUInt32LE(text.length, 16);
    part.writeUInt32LE(regularFileType, 20);
    text.copy(part, 24);
    if (total + part.length > bytes) break;
    parts.push(part);
    total += part.length;
  }
  return reply(unique, total, (body) => void Buffer.concat(parts).copy(body));
}

/** A message that nobody asked for: FUSE_NOTIFY_STORE puts data into the kernel's cache of a file. */
export function storeHeader(nodeId: number, offset: number, bytes: number): Buffer {
  const notifyStore = 4;
  const message = Buffer.alloc(outHeaderBytes + 24);
  message.writeUInt32LE(message.length + bytes, 0);
  message.writeInt32LE(notifyStore, 4); // In the place of the error; unique is 0.
  message.writeBigUInt64LE(BigInt(nodeId), 16);
  message.writeBigUInt64LE(BigInt(offset), 24);
  message.writeUInt32LE(bytes, 32);
  return message;
}

/** The number of an error by its name, such as that of node:fs; EIO for what is no system's error. */
export function errnoOf(error: unknown): number {
  const { code } = error as NodeJS.ErrnoException;
  const table: Record<string, number> = constants.errno;
  return (code === undefined ? undefined : table[code]) ?? constants.errno.EIO;
}
