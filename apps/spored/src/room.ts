import { statfs } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";

/**
 * Refuses what may not fit before anything of it is written.
 *
 * @param directory on the file system that is to take it.
 * @throws SporeletError `resource_exhausted`
 */
export async function requireRoomFor(
  directory: string,
  neededBytes: number,
  context: { operation: string; subject: string },
): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (neededBytes <= bavail * bsize) return;
  const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  throw noRoom(context, `it may take ${mib(neededBytes)}, and the store has ${mib(bavail * bsize)} left`);
}

export function noRoom(context: { operation: string; subject: string }, reason: string): SporeletError {
  const hint = "make room with sporectl cache gc, or see sporectl cache ls";
  return new SporeletError({ ...context, code: "resource_exhausted", reason, hint });
}
