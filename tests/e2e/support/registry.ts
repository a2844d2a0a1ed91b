import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { top } from "./sporectl.ts";

/** Debian's docker-registry on a free loopback port, over plain HTTP, with its data in a temporary directory. */
export async function startRegistry(): Promise<AsyncDisposable & { address: string }> {
  const directory = await mkdtemp(join(tmpdir(), "spore-registry-"));
  const port = await freePort();
  const config = join(directory, "config.yml");
  await writeFile(
    config,
    `version: 0.1\nlog: { level: warn }\nstorage: { filesystem: { rootdirectory: ${directory}/data } }\nhttp: { addr: "127.0.0.1:${port}" }\n`,
  );
  const child = spawn(join(top, ".tools/docker-registry/usr/bin/docker-registry"), ["serve", config], {
    stdio: "ignore",
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const dispose = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await answering(port, child.pid);
  } catch (error) {
    await dispose();
    throw error;
  }
  return { address: `127.0.0.1:${port}`, [Symbol.asyncDispose]: dispose };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The registry tells nobody that it listens, so a client has to ask; for at most 20 seconds. */
async function answering(port: number, pid: number | undefined): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("close", () => undefined);
      socket.once("connect", () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`docker-registry (pid ${pid}) does not listen on port ${port}`);
}
