import { readdir, readFile, readlink } from "node:fs/promises";

/** TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp shows it. */
const listening = "0A";

/**
 * The process that listens on a TCP port of this host, as `NAME (pid N)`, where /proc tells: other users'
 * processes show their sockets to root alone.
 */
export async function listenerOf(port: number): Promise<string | undefined> {
  const inodes = await listeningSockets(port);
  if (inodes.size === 0) return undefined;
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  for (const pid of pids) {
    // Processes end while we look, and others' descriptors may not be read.
    const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const descriptor of descriptors) {
      const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => "");
      if (!inodes.has(target)) continue;
      const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "a process");
      return `${name.trim()} (pid ${pid})`;
    }
  }
  return undefined;
}

/** Links such as `socket:[1234]` of the sockets that listen on the port. */
async function listeningSockets(port: number): Promise<Set<string>> {
  const tables = await Promise.all(
    ["tcp", "tcp6"].map((name) => readFile(`/proc/net/${name}`, "utf8").catch(() => "")),
  );
  const sockets = new Set<string>();
  for (const line of tables.join("\n").split("\n")) {
    // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
    const fields = line.trim().split(/\s+/);
    const [local, state, inode] = [fields[1], fields[3], fields[9]];
    if (state === listening && Number.parseInt(local?.split(":")[1] ?? "", 16) === port)
      sockets.add(`socket:[${inode}]`);
  }
  return sockets;
}
