import { mkdir, open } from "node:fs/promises";
import { lockFile } from "../syscalls.ts";

const directory = "/run/sporelet";

/**
 * Changes to the host's own network are made by one process at a time, whichever SPORELET_HOME it serves:
 * which links are free and whether the rules are still needed would otherwise be out of date when it matters.
 */
export async function withNetworkLock<T>(action: () => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await using handle = await open(`${directory}/network.lock`, "a", 0o600);
  await lockFile(handle.fd);
  return await action();
}
