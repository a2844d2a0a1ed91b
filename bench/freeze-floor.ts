/**
 * The floor of a fork: how long a bare QEMU stands still while a minimal program saves what it is made of. It
 * shares no code with Sporelet: over the monitor's socket it stops the guest and has the device state written,
 * finds the dirty pages of the private mapping in /proc/PID/pagemap, copies them from /proc/PID/mem to a file,
 * and lets the guest go on. No disk, no digests, no copy that a clone could be resumed from.
 */
import { once } from "node:events";
import { closeSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";

interface FreezeFloorOptions {
  pid: number;
  /** File that the guest's memory is mapped from. */
  memory: string;
  /** Existing directory for what is written, on the file system of the snapshots. */
  scratch: string;
}

export interface FreezeFloorRun {
  pauseMs: number;
  copiedBytes: number;
}

const pageBytes = 4096;
const bufferBytes = 4 * 1024 * 1024;

export async function runFreezeFloor(options: FreezeFloorOptions): Promise<FreezeFloorRun> {
  const { pid, scratch } = options;
  const [vmstate, pages] = [join(scratch, "floor-vmstate"), join(scratch, "floor-pages")];
  const socket = connect({ path: monitorOf(pid) });
  const qemu = commands(socket);
  try {
    await qemu('{"execute":"qmp_capabilities"}');
    const start = performance.now();
    await qemu('{"execute":"stop"}');
    let copiedBytes: number;
    try {
      const save = { execute: "xen-save-devices-state", arguments: { filename: vmstate, live: false } };
      await qemu(JSON.stringify(save));
      copiedBytes = copyDirtyPages(options, pages);
    } finally {
      await qemu('{"execute":"cont"}');
    }
    return { pauseMs: performance.now() - start, copiedBytes };
  } finally {
    socket.destroy();
    rmSync(vmstate, { force: true });
    rmSync(pages, { force: true });
  }
}

/** The path of the monitor's socket, from the process's command line. */
function monitorOf(pid: number): string {
  const path = /socket,id=monitor,path=([^,\0]+)/.exec(readFileSync(`/proc/${pid}/cmdline`, "utf8"))?.[1];
  if (path === undefined) throw new Error(`process ${pid} has no monitor`);
  return path;
}

/** Each command's answer; QEMU gives them in order, and events in between. */
function commands(socket: Socket): (command: string) => Promise<void> {
  const waiting: PromiseWithResolvers<void>[] = [];
  let text = "";
  socket.setEncoding("utf8").on("data", (data: string) => {
    const lines = (text + data).split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) {
      const answer = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
      if (answer.error !== undefined) waiting.shift()?.reject(new Error(answer.error.desc));
      else if (answer.return !== undefined) waiting.shift()?.resolve();
    }
  });
  socket.on("error", (error) => waiting.shift()?.reject(error));
  return async (command) => {
    if (socket.connecting) await once(socket, "connect");
    const answer = Promise.withResolvers<void>();
    waiting.push(answer);
    socket.write(`${command}\n`);
    await answer.promise;
  };
}

/** @returns how many bytes */
function copyDirtyPages({ pid, memory }: FreezeFloorOptions, target: string): number {
  const line = readFileSync(`/proc/${pid}/maps`, "utf8")
    .split("\n")
    .find((mapping) => mapping.endsWith(memory));
  const [start = Number.NaN, end = Number.NaN] =
    (line ?? "")
      .split(" ", 1)[0]
      ?.split("-")
      .map((digits) => Number.parseInt(digits, 16)) ?? [];
  const entries = new BigUint64Array((end - start) / pageBytes);
  const [pagemap, mem] = [openSync(`/proc/${pid}/pagemap`, "r"), openSync(`/proc/${pid}/mem`, "r")];
  const file = openSync(target, "wx");
  try {
    readSync(pagemap, new Uint8Array(entries.buffer), 0, entries.byteLength, (start / pageBytes) * 8);
    const buffer = Buffer.allocUnsafe(bufferBytes);
    let copied = 0;
    for (let page = 0; page < entries.length; ) {
      let count = 0;
      while (page + count < entries.length && isOwn(entries[page + count] ?? 0n)) count += 1;
      for (let done = 0; done < count * pageBytes; ) {
        const length = Math.min(bufferBytes, count * pageBytes - done);
        const read = readSync(mem, buffer, 0, length, start + page * pageBytes + done);
        writeSync(file, buffer, 0, read);
        done += read;
      }
      copied += count * pageBytes;
      page += Math.max(1, count);
    }
    return copied;
  } finally {
    for (const fd of [pagemap, mem, file]) closeSync(fd);
  }
}

/** Bits of Documentation/admin-guide/mm/pagemap.rst: present or swapped, and not a page of the file. */
function isOwn(entry: bigint): boolean {
  return entry >> 62n !== 0n && ((entry >> 61n) & 1n) === 0n;
}
