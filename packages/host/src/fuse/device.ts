import { closeSync, openSync, read, write, writeSync, writevSync } from "node:fs";
import { detachMount, mountFileSystem } from "../syscalls.ts";
import { parseRequest, type Request } from "./protocol.ts";

/** An open FUSE device whose file system is mounted. */
export interface FuseDevice {
  /** Sends one message; what the kernel does not wait for any more is dropped. */
  send(...message: readonly Buffer[]): void;
  /**
   * Sends one message without making this thread wait. For notifications: they wait for locks that only an
   * answer to another request may free.
   */
  sendAside(message: Buffer): Promise<void>;
  /** Settles when the file system is mounted no more and its last user has gone, or it was aborted. */
  readonly ended: Promise<void>;
  /** Takes the mount away, and with `abort` ends all requests and all later use of open files. */
  unmount(options: { abort: boolean }): void;
}

/** The largest message: 1 MiB of data (FUSE's limit of 256 pages) and the headers before it. */
export const maxTransferBytes = 1024 * 1024;
const bufferBytes = maxTransferBytes + 4096;

/**
 * Mounts a file system at an existing directory and reads its requests.
 *
 * A read(2) of the device waits in a thread of libuv's pool, which has four: a process that serves a mount
 * must not use files of that mount itself. It is no slower than a worker thread that posts messages, and keeps
 * up better with writes (docs/design/0006).
 *
 * @param onRequest called for each request; its `body` is valid until it returns.
 * @throws an error of the system call: EPERM without root, ENOENT or ENODEV where the kernel has no FUSE.
 */
export function openFuseDevice(
  options: { mountpoint: string; name: string },
  onRequest: (request: Request) => void,
): FuseDevice {
  const fd = openSync("/dev/fuse", "r+");
  try {
    const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
    const data = `fd=${fd},rootmode=40700,user_id=${uid},group_id=${gid}`;
    mountFileSystem(options.name, options.mountpoint, "fuse.sporelet", data);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const buffer = Buffer.alloc(bufferBytes);
  let open = true;
  const next = () => {
    read(fd, buffer, 0, buffer.length, null, (error, bytes) => {
      if (error !== null && !goesOn.has(error.code ?? "")) {
        // ENODEV: unmounted; ECONNABORTED: aborted.
        open = false;
        closeSync(fd);
        end();
        return;
      }
      if (error === null) onRequest(parseRequest(buffer.subarray(0, bytes)));
      next();
    });
  };
  next();
  return {
    ended,
    send(...message) {
      if (!open) return;
      try {
        if (message.length === 1) writeSync(fd, message[0] as Buffer);
        else writevSync(fd, message);
      } catch (error) {
        if (!dropped.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
      }
    },
    sendAside(message) {
      return new Promise((resolve, reject) => {
        if (!open) return resolve();
        write(fd, message, (error) => {
          if (error === null || dropped.has(error.code ?? "")) resolve();
          else reject(error);
        });
      });
    },
    unmount: ({ abort }) => void detachMount(options.mountpoint, { abort }),
  };
}

/** Errors of read(2) after which there may be a next request: it was interrupted or aborted before it came. */
const goesOn = new Set(["EINTR", "EAGAIN", "ENOENT"]);

/** Errors of write(2) that say that nobody wants the message: the request or the file is gone, or all is. */
const dropped = new Set(["ENOENT", "ENODEV", "ENOTCONN", "ECONNABORTED", "EINTR"]);
