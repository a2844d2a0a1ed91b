import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Uses a file from another process, as whoever serves the file must not do itself. */
export interface FileClient extends AsyncDisposable {
  readonly process: ChildProcess;
  read(offset: number, bytes: number): Promise<Buffer>;
  /** Reads through a private mapping of the file. */
  map(offset: number, bytes: number): Promise<Buffer>;
  write(offset: number, data: Buffer): Promise<void>;
  discard(offset: number, bytes: number): Promise<void>;
  seek(offset: number, what: "data" | "hole"): Promise<number>;
}

/** Why tests cannot do that here; undefined when they can. */
export function whyNoFileClient(): string | undefined {
  return spawnSync("python3", ["-c", "import mmap"]).status === 0 ? undefined : "python3 is not installed";
}

/** Opens a file in a new process. Failures of calls reject with errors whose `code` is the errno's name. */
export async function openFileClient(path: string): Promise<FileClient> {
  const script = new URL("file-client.py", import.meta.url).pathname;
  const child = spawn("python3", [script, path], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await answers.next();
    if (done) throw new Error("the client has ended");
    const parsed = JSON.parse(value) as string | number | null | { error: string };
    if (typeof parsed !== "object" || parsed === null) return parsed;
    throw Object.assign(new Error(parsed.error), { code: parsed.error });
  };
  const call = async (what: string, offset: number, argument: number | string) => {
    child.stdin.write(`${JSON.stringify([what, offset, argument])}\n`);
    return await answer();
  };
  const hex = async (what: string, offset: number, bytes: number) =>
    Buffer.from(String(await call(what, offset, bytes)), "hex");
  await answer();
  return {
    process: child,
    read: (offset, bytes) => hex("read", offset, bytes),
    map: (offset, bytes) => hex("map", offset, bytes),
    write: async (offset, data) => void (await call("write", offset, data.toString("hex"))),
    discard: async (offset, bytes) => void (await call("discard", offset, bytes)),
    seek: async (offset, what) => Number(await call("seek", offset, what)),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.stdin.end();
      await once(child, "exit");
    },
  };
}
