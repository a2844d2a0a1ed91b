import { once } from "node:events";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openFileClient, temporaryDirectory, whyNoFileClient, whyNoMounts } from "../testing/index.ts";
import { mountAt } from "../volume/mounts.ts";
import { type FuseAccess, type FuseFile, type FuseFileSystem, mountFuse } from "./file-system.ts";

const pageBytes = 4096;
const sizeBytes = 64 * pageBytes;

function sample(): Buffer {
  const content = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 4) content.writeUInt32LE(at ^ 0x5a5a5a5a, at);
  return content;
}

/** A file whose content is in memory. */
function memoryFile(content: Buffer, options: Partial<FuseFile> = {}): FuseFile {
  return {
    sizeBytes: content.length,
    writable: false,
    cached: true,
    ready: () => undefined,
    read: (offset, target) => void content.copy(target, 0, offset, offset + target.length),
    ...options,
  };
}

function writableFile(content: Buffer, options: Partial<FuseFile> = {}): FuseFile {
  return memoryFile(content, {
    writable: true,
    cached: false,
    write: (offset, data) => void data.copy(content, offset),
    discard: (offset, bytes) => void content.fill(0, offset, offset + bytes),
    ...options,
  });
}

async function mounted(): Promise<{ path: string; files: FuseFileSystem } & AsyncDisposable> {
  const directory = await temporaryDirectory();
  const files = mountFuse({ mountpoint: directory.path, name: "test" });
  return {
    path: directory.path,
    files,
    async [Symbol.asyncDispose]() {
      await files.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

const reason = whyNoMounts() ?? whyNoFileClient();

it("serves files to other processes", (ctx) => {
  if (reason) ctx.skip(reason);
});

describe.runIf(reason === undefined)("a FUSE file system", () => {
  it("lists its files with their sizes, and nothing else", async () => {
    await using fuse = await mounted();
    fuse.files.add("memory", memoryFile(sample()));
    fuse.files.add("disk", writableFile(sample()));
    expect((await readdir(fuse.path)).toSorted()).toEqual(["disk", "memory"]);
    const { size, mode } = await stat(join(fuse.path, "memory"));
    expect([size, mode]).toEqual([sizeBytes, 0o100400]);
    await expect(stat(join(fuse.path, "other"))).rejects.toMatchObject({ code: "ENOENT" });
    fuse.files.remove("disk");
    await expect(stat(join(fuse.path, "disk"))).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("gives the same bytes to reads and to private mappings, which may be written", async () => {
    await using fuse = await mounted();
    const content = sample();
    fuse.files.add("memory", memoryFile(content));
    await using client = await openFileClient(join(fuse.path, "memory"));
    const part = fc.record({ offset: fc.nat(sizeBytes - 1), bytes: fc.integer({ min: 1, max: 40_000 }) });
    await fc.assert(
      fc.asyncProperty(part, fc.boolean(), async ({ offset, bytes }, mapped) => {
        const read = await client[mapped ? "map" : "read"](offset, bytes);
        expect(read.equals(content.subarray(offset, offset + bytes))).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it("asks for exactly the pages that are touched, and once", async () => {
    await using fuse = await mounted();
    const asked: FuseAccess[] = [];
    const ready = (access: FuseAccess) => void asked.push(access);
    fuse.files.add("memory", memoryFile(sample(), { ready }));
    await using client = await openFileClient(join(fuse.path, "memory"));
    await using other = await openFileClient(join(fuse.path, "memory"));
    for (const page of [7, 3, 40, 7, 3]) await client.map(page * pageBytes + 5, 1);
    await other.map(40 * pageBytes, 10);
    expect(asked.map(({ offset, bytes }) => [offset / pageBytes, bytes])).toEqual([
      [7, pageBytes],
      [3, pageBytes],
      [40, pageBytes],
    ]);
    expect(asked[0]?.pid).toBe(client.process.pid);
  });

  it("does not ask for pages that were stored in the kernel's cache", async () => {
    await using fuse = await mounted();
    const content = sample();
    const asked: number[] = [];
    const ready = ({ offset }: FuseAccess) => void asked.push(offset / pageBytes);
    fuse.files.add("memory", memoryFile(content, { ready }));
    await stat(join(fuse.path, "memory"));
    await fuse.files.store("memory", 8 * pageBytes, content.subarray(8 * pageBytes, 24 * pageBytes));
    await using client = await openFileClient(join(fuse.path, "memory"));
    const read = await client.map(8 * pageBytes, 17 * pageBytes);
    expect(read.equals(content.subarray(8 * pageBytes, 25 * pageBytes))).toBe(true);
    // The kernel may give up some of its cache at any time.
    expect(asked.at(-1)).toBe(24);
    expect(asked.length).toBeLessThan(8);
  });

  it("is a disk: writes, discards and reads in any order and size", async () => {
    await using fuse = await mounted();
    const model = sample();
    const content = sample();
    fuse.files.add("disk", writableFile(content));
    await using client = await openFileClient(join(fuse.path, "disk"));
    const range = { offset: fc.nat(sizeBytes - 1), bytes: fc.integer({ min: 1, max: 20_000 }) };
    const step = fc.record({
      kind: fc.constantFrom("read", "write", "discard"),
      ...range,
      fill: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        for (const { kind, offset, fill, bytes: wanted } of steps) {
          const bytes = Math.min(wanted, sizeBytes - offset);
          if (kind === "write") {
            model.fill(fill, offset, offset + bytes);
            await client.write(offset, Buffer.alloc(bytes, fill));
          } else if (kind === "discard") {
            model.fill(0, offset, offset + bytes);
            await client.discard(offset, bytes);
          } else {
            const read = await client.read(offset, bytes);
            expect(read.equals(model.subarray(offset, offset + bytes))).toBe(true);
          }
        }
        expect(content.equals(model)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  it("keeps what is written while it waits", async () => {
    await using fuse = await mounted();
    const content = sample();
    const [gate, asked] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const wait = (access: FuseAccess) => {
      if (access.kind !== "write") return undefined;
      asked.resolve();
      return gate.promise;
    };
    fuse.files.add("slow", writableFile(content, { ready: wait }));
    fuse.files.add("quick", writableFile(sample()));
    await using client = await openFileClient(join(fuse.path, "slow"));
    await using other = await openFileClient(join(fuse.path, "quick"));
    const slow = client.write(0, Buffer.alloc(pageBytes, 1));
    await asked.promise;
    await other.write(0, Buffer.alloc(pageBytes, 2));
    gate.resolve();
    await slow;
    expect(content.subarray(0, pageBytes).equals(Buffer.alloc(pageBytes, 1))).toBe(true);
  });

  it("answers others while one request waits, and finds data and holes", async () => {
    await using fuse = await mounted();
    const gate = Promise.withResolvers<void>();
    const ready = ({ offset }: FuseAccess) => (offset === 0 ? gate.promise : undefined);
    const seek = (offset: number, what: "data" | "hole") =>
      what === "data" ? (offset < pageBytes ? pageBytes : undefined) : 2 * pageBytes;
    fuse.files.add("memory", memoryFile(sample(), { ready, seek }));
    await using client = await openFileClient(join(fuse.path, "memory"));
    await using other = await openFileClient(join(fuse.path, "memory"));
    const slow = client.map(0, 4);
    expect(await other.map(pageBytes, 1)).toHaveLength(1);
    expect(await other.seek(0, "data")).toBe(pageBytes);
    expect(await other.seek(0, "hole")).toBe(2 * pageBytes);
    await expect(other.seek(3 * pageBytes, "data")).rejects.toMatchObject({ code: "ENXIO" });
    gate.resolve();
    expect(await slow).toEqual(sample().subarray(0, 4));
  });

  it("refuses to write what is only to be read", async () => {
    await using fuse = await mounted();
    fuse.files.add("memory", memoryFile(sample()));
    await using client = await openFileClient(join(fuse.path, "memory"));
    await expect(client.write(0, Buffer.alloc(10))).rejects.toMatchObject({ code: "EROFS" });
    await expect(client.discard(0, pageBytes)).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  it("fails the request alone that cannot be served, with the error's code", async () => {
    await using fuse = await mounted();
    const broken = (access: FuseAccess) => {
      if (access.offset === 0) return Promise.reject(Object.assign(new Error("full"), { code: "ENOSPC" }));
      return access.offset === pageBytes ? Promise.reject(new Error("odd")) : undefined;
    };
    fuse.files.add("disk", writableFile(sample(), { ready: broken }));
    await using client = await openFileClient(join(fuse.path, "disk"));
    await expect(client.read(0, 10)).rejects.toMatchObject({ code: "ENOSPC" });
    await expect(client.read(pageBytes, 10)).rejects.toMatchObject({ code: "EIO" });
    expect(await client.read(2 * pageBytes, 10)).toHaveLength(10);
  });

  it("ends whoever touches a page of a mapping that cannot be served", async () => {
    await using fuse = await mounted();
    const ready = ({ offset }: FuseAccess) => (offset === 0 ? Promise.reject(new Error("gone")) : undefined);
    fuse.files.add("memory", memoryFile(sample(), { ready }));
    const client = await openFileClient(join(fuse.path, "memory"));
    const ended = once(client.process, "exit");
    await expect(client.map(0, 1)).rejects.toThrow("the client has ended");
    expect((await ended)[1]).toBe("SIGBUS");
  });

  it("lets a process be killed that waits for a page, but not stirred by other signals", async () => {
    await using fuse = await mounted();
    const asked = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const ready = ({ offset }: FuseAccess) => {
      if (offset === 0) asked.resolve();
      return offset === 0 ? gate.promise : undefined;
    };
    fuse.files.add("memory", memoryFile(sample(), { ready }));
    const [client, other] = await Promise.all([
      openFileClient(join(fuse.path, "memory")),
      openFileClient(join(fuse.path, "memory")),
    ]);
    const lost = client.map(0, 1);
    lost.catch(() => {});
    await asked.promise;
    const served = other.map(0, 1);
    const exit = once(client.process, "exit");
    client.process.kill("SIGCHLD"); // Ignored, but a signal: the kernel tells of the first one only.
    client.process.kill("SIGKILL");
    expect((await exit)[1]).toBe("SIGKILL");
    gate.resolve();
    expect(await served).toHaveLength(1);
    await other[Symbol.asyncDispose]();
  });

  it("knows who has its files open", async () => {
    await using fuse = await mounted();
    fuse.files.add("memory", memoryFile(sample()));
    const released = new Promise<string>((resolve) => fuse.files.onReleased(resolve));
    const client = await openFileClient(join(fuse.path, "memory"));
    await client.map(0, 1);
    expect(fuse.files.openCount()).toBe(1);
    await client[Symbol.asyncDispose]();
    expect(await released).toBe("memory");
    expect(fuse.files.openCount("memory")).toBe(0);
  });

  it("leaves no mount when it is closed, though a file is open and a request waits", async () => {
    await using directory = await temporaryDirectory();
    const files = mountFuse({ mountpoint: directory.path, name: "test" });
    const asked = Promise.withResolvers<void>();
    const ready = () => {
      asked.resolve();
      return new Promise<void>(() => {});
    };
    files.add("disk", writableFile(sample(), { ready }));
    await using client = await openFileClient(join(directory.path, "disk"));
    const read = client.read(0, 1);
    read.catch(() => {});
    await asked.promise;
    await files.close();
    await expect(read).rejects.toMatchObject({ code: expect.stringMatching(/ECONNABORTED|ENOTCONN|EIO/) });
    expect(await mountAt(directory.path)).toBeUndefined();
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(directory.path);
  });
});
