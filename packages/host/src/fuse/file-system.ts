/**
 * A FUSE file system of one flat directory with files of a fixed size, whose content comes from the process
 * that serves it: at once, or later. See docs/design/0006-lazy-start-over-fuse.md for what it is used for.
 */
import { constants } from "node:os";
import { type FuseDevice, maxTransferBytes, openFuseDevice } from "./device.ts";
import * as wire from "./protocol.ts";
import { createWaitingRequests } from "./waiting.ts";

/** A file of a fixed size. Offsets and lengths lie within it when its functions are called. */
export interface FuseFile {
  readonly sizeBytes: number;
  /** Whether it may be written; without it WRITE fails with EROFS, though it may be opened for writing. */
  readonly writable: boolean;
  /**
   * Whether the kernel keeps what was read, which mmap(2) needs and all who open the file share. Without it
   * requests come as they were made, up to 1 MiB each.
   */
  readonly cached: boolean;
  /**
   * Asked before each read, write and discard: undefined when it can be done at once, else what has to be
   * waited for. A rejection fails the request with its error's code (EIO for errors that have none).
   */
  ready(access: FuseAccess): Promise<void> | undefined;
  /** Fills the whole target. */
  read(offset: number, target: Buffer): void;
  write?(offset: number, data: Buffer): void;
  /** Makes a range read as zeros. */
  discard?(offset: number, bytes: number): void;
  /** lseek(2) for data and holes; undefined: no more data. Default: all is data. */
  seek?(offset: number, what: "data" | "hole"): number | undefined;
  sync?(): Promise<void>;
}

export interface FuseAccess {
  kind: "read" | "write" | "discard";
  offset: number;
  bytes: number;
  /** The thread that asks; 0: the kernel. */
  pid: number;
}

export interface FuseOptions {
  /** Existing directory. */
  mountpoint: string;
  /** What mount(8) shows as the source. */
  name: string;
  /** How much the kernel reads ahead of what is asked for. Default: 0. */
  readaheadBytes?: number;
  /** Something in this process failed while it answered; the request got EIO. */
  onError?: (error: unknown) => void;
}

export interface FuseFileSystem extends AsyncDisposable {
  /** Adds a file to the directory. */
  add(name: string, file: FuseFile): void;
  /** Takes a file away; who has it open can go on. */
  remove(name: string): void;
  /** How many times a file, or any file, is open (a mapping keeps it open). */
  openCount(name?: string): number;
  /** Called when a file was closed by its last user. */
  onReleased(callback: (name: string) => void): void;
  /**
   * Puts content into the kernel's cache of a file, where it is found without asking. Nothing happens for a
   * file that nobody has looked at yet. The range has to be whole pages that are `ready` by now.
   */
  store(name: string, offset: number, data: Buffer): Promise<void>;
  /** Settles when the mount is gone, whoever took it away. */
  readonly ended: Promise<void>;
  /** Unmounts; processes that still have files open meet ENOTCONN, or SIGBUS in a mapping. */
  close(): Promise<void>;
}

interface Node {
  id: number;
  name: string;
  file: FuseFile;
  opens: number;
}

const { EIO, EINTR, EINVAL, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, EROFS, ENXIO, EFBIG } =
  constants.errno;

/**
 * Mounts the file system and serves it until it is closed.
 *
 * Never use its files in the process that serves them.
 *
 * @throws an error of mount(2): EPERM without root, ENOENT or ENODEV where the kernel has no FUSE.
 */
export function mountFuse(options: FuseOptions): FuseFileSystem {
  const { readaheadBytes = 0, onError = () => {} } = options;
  const nodes = new Map<number, Node>();
  const byName = new Map<string, Node>();
  const waiting = createWaitingRequests();
  let released: (name: string) => void = () => {};
  let lastId: number = wire.rootId;

  const device: FuseDevice = openFuseDevice(options, (request) => {
    try {
      const handler = handlers[request.opcode];
      if (handler === undefined) fail(request, ENOSYS);
      else handler(request);
    } catch (error) {
      onError(error);
      fail(request, wire.errnoOf(error));
    }
  });

  const fail = ({ unique }: wire.Request, errno: number) => device.send(wire.emptyReply(unique, errno));
  const attributesOf = (node: Node): wire.Attributes => ({
    nodeId: node.id,
    sizeBytes: node.file.sizeBytes,
    mode: 0o100000 | (node.file.writable ? 0o600 : 0o400),
  });
  const rootAttributes: wire.Attributes = { nodeId: wire.rootId, sizeBytes: 0, mode: 0o040700 };

  /** Runs `act` for the request's file once what it needs is there. */
  const access = (
    request: wire.Request,
    kind: FuseAccess["kind"],
    range: wire.Range,
    act: (file: FuseFile) => void,
  ) => {
    const { unique, pid, nodeId } = request;
    const file = nodes.get(nodeId)?.file;
    if (file === undefined) return fail(request, ENOENT);
    const bytes = Math.max(0, Math.min(range.bytes, file.sizeBytes - range.offset));
    if (kind === "write" && bytes < range.bytes) return fail(request, EFBIG);
    const needed = bytes === 0 ? undefined : file.ready({ kind, offset: range.offset, bytes, pid });
    if (needed === undefined) return act(file);
    const finish = (answer: () => void) => {
      if (!waiting.remove(unique)) return;
      try {
        answer();
      } catch (error) {
        onError(error);
        device.send(wire.emptyReply(unique, wire.errnoOf(error)));
      }
    };
    waiting.add(unique, pid, () => device.send(wire.emptyReply(unique, EINTR)));
    needed.then(
      () => finish(() => act(file)),
      (error) => finish(() => device.send(wire.emptyReply(unique, wire.errnoOf(error)))),
    );
  };

  // Filled for answers that are sent before the next request is read.
  const replyBuffer = Buffer.alloc(wire.outHeaderBytes + maxTransferBytes);

  const handlers: Record<number, (request: wire.Request) => void> = {
    [wire.opcode.init](request) {
      const init = wire.parseInit(request.body);
      if (init.major > wire.protocolMajor) return device.send(wire.versionReply(request.unique));
      if (init.major < wire.protocolMajor || init.minor < wire.protocolMinor) return fail(request, EIO);
      const limits = { maxReadaheadBytes: readaheadBytes, maxTransferBytes };
      device.send(wire.initReply(request.unique, init, limits));
    },
    [wire.opcode.lookup](request) {
      const node = byName.get(request.body.subarray(0, request.body.indexOf(0)).toString());
      if (request.nodeId !== wire.rootId) return fail(request, ENOTDIR);
      if (node === undefined) return fail(request, ENOENT);
      device.send(wire.entryReply(request.unique, attributesOf(node)));
    },
    [wire.opcode.getattr](request) {
      const node = nodes.get(request.nodeId);
      if (request.nodeId === wire.rootId) {
        return device.send(wire.attributesReply(request.unique, rootAttributes));
      }
      if (node === undefined) return fail(request, ENOENT);
      device.send(wire.attributesReply(request.unique, attributesOf(node)));
    },
    [wire.opcode.setattr](request) {
      const node = nodes.get(request.nodeId);
      if (node === undefined) return fail(request, EPERM);
      const { sizeBytes = node.file.sizeBytes } = wire.parseSetattr(request.body);
      // Times and permissions are of no account; the size is fixed.
      if (sizeBytes !== node.file.sizeBytes) return fail(request, EPERM);
      device.send(wire.attributesReply(request.unique, attributesOf(node)));
    },
    [wire.opcode.open](request) {
      const node = nodes.get(request.nodeId);
      if (node === undefined) return fail(request, ENOENT);
      node.opens += 1;
      const { keepCache, directIo, parallelDirectWrites } = wire.openFlag;
      device.send(
        wire.openReply(request.unique, node.file.cached ? keepCache : directIo | parallelDirectWrites),
      );
    },
    [wire.opcode.release](request) {
      const node = nodes.get(request.nodeId);
      device.send(wire.emptyReply(request.unique));
      if (node === undefined) return;
      node.opens -= 1;
      if (node.opens > 0) return;
      released(node.name);
    },
    [wire.opcode.read](request) {
      const { unique } = request;
      const range = wire.parseRead(request.body);
      access(request, "read", range, (file) => {
        const bytes = Math.max(0, Math.min(range.bytes, file.sizeBytes - range.offset));
        const message = replyBuffer.subarray(0, wire.outHeaderBytes + bytes);
        if (bytes > 0) file.read(range.offset, message.subarray(wire.outHeaderBytes));
        wire.writeOutHeader(message, message.length, unique);
        device.send(message);
      });
    },
    [wire.opcode.write](request) {
      const { unique, body } = request;
      const file = nodes.get(request.nodeId)?.file;
      if (file?.write === undefined || !file.writable) return fail(request, EROFS);
      const { offset, data } = wire.parseWrite(body);
      let kept: Buffer | undefined;
      const range = { offset, bytes: data.length };
      access(request, "write", range, (target) => {
        target.write?.(offset, kept ?? data);
        device.send(wire.writeReply(unique, data.length));
      });
      // The next request is read into the same memory.
      if (waiting.has(unique)) kept = Buffer.from(data);
    },
    [wire.opcode.fallocate](request) {
      const { unique } = request;
      const { mode, ...range } = wire.parseFallocate(request.body);
      const file = nodes.get(request.nodeId)?.file;
      if (mode !== wire.punchHoleMode || file?.discard === undefined) return fail(request, EOPNOTSUPP);
      access(request, "discard", range, (target) => {
        target.discard?.(range.offset, Math.min(range.bytes, target.sizeBytes - range.offset));
        device.send(wire.emptyReply(unique));
      });
    },
    [wire.opcode.lseek](request) {
      const file = nodes.get(request.nodeId)?.file;
      const { offset, whence } = wire.parseLseek(request.body);
      if (file === undefined || (whence !== 3 && whence !== 4)) return fail(request, EINVAL);
      if (offset >= file.sizeBytes) return fail(request, ENXIO);
      const what = whence === 3 ? "data" : "hole";
      const found = file.seek ? file.seek(offset, what) : what === "data" ? offset : file.sizeBytes;
      if (found === undefined) return fail(request, ENXIO);
      device.send(wire.lseekReply(request.unique, found));
    },
    [wire.opcode.fsync](request) {
      const { unique } = request;
      const synced = nodes.get(request.nodeId)?.file.sync?.() ?? Promise.resolve();
      synced.then(
        () => device.send(wire.emptyReply(unique)),
        (error) => device.send(wire.emptyReply(unique, wire.errnoOf(error))),
      );
    },
    [wire.opcode.statfs]: ({ unique }) => device.send(wire.statfsReply(unique)),
    [wire.opcode.opendir]: ({ unique }) => device.send(wire.openReply(unique, 0)),
    [wire.opcode.releasedir]: ({ unique }) => device.send(wire.emptyReply(unique)),
    [wire.opcode.readdir]({ unique, body }) {
      const entries = [...byName.values()].map(({ id, name }) => ({ nodeId: id, name }));
      device.send(wire.readdirReply(unique, entries, wire.parseRead(body)));
    },
    [wire.opcode.interrupt]: ({ body }) => waiting.interrupted(wire.parseInterrupt(body)),
    [wire.opcode.destroy]: ({ unique }) => device.send(wire.emptyReply(unique)),
    // These two get no answer. Nodes are few, and kept.
    [wire.opcode.forget]: () => {},
    [wire.opcode.batchForget]: () => {},
  };

  void device.ended.then(() => waiting.close());
  return {
    add(name, file) {
      lastId += 1;
      const node: Node = { id: lastId, name, file, opens: 0 };
      nodes.set(node.id, node);
      byName.set(name, node);
    },
    remove: (name) => void byName.delete(name),
    openCount: (name) =>
      [...nodes.values()].reduce(
        (sum, node) => sum + (name === undefined || node.name === name ? node.opens : 0),
        0,
      ),
    onReleased(callback) {
      released = callback;
    },
    async store(name, offset, data) {
      const node = byName.get(name);
      if (node === undefined) return;
      for (let at = 0; at < data.length; at += maxTransferBytes) {
        const part = data.subarray(at, at + maxTransferBytes);
        await device.sendAside(Buffer.concat([wire.storeHeader(node.id, offset + at, part.length), part]));
      }
    },
    ended: device.ended,
    async close() {
      device.unmount({ abort: true });
      await device.ended;
    },
    async [Symbol.asyncDispose]() {
      await this.close();
    },
  };
}
