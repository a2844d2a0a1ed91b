import { rm, statfs, truncate } from "node:fs/promises";
import path from "node:path";
import { runProcess } from "@sporelet/host";

/**
 * Takes all room of a volume but so much; disposing gives it back.
 *
 * @param directory mount point of a volume of the test's own
 * @param smallestPieceBytes how closely `leftBytes` is come to
 */
export async function fillVolume(
  directory: string,
  name: string,
  leftBytes: number,
  smallestPieceBytes: number,
): Promise<AsyncDisposable> {
  const file = path.join(directory, name);
  let filled = 0;
  // In ever smaller pieces: the file system keeps some room for itself, and does not say how much.
  for (let piece = 64 * 1024 * 1024; piece >= smallestPieceBytes; piece /= 4) {
    for (;;) {
      const { bavail, bsize } = await statfs(directory);
      if (bavail * bsize - piece < leftBytes) break;
      const argv = ["fallocate", "-o", String(filled), "-l", String(piece), file];
      const { code } = await runProcess(argv, { operation: "fill the disk", ok: [0, 1] });
      if (code !== 0) break;
      filled += piece;
    }
  }
  return {
    async [Symbol.asyncDispose]() {
      // XFS frees what a removed file had a little later, but that of a cut one at once.
      await truncate(file, 0);
      await rm(file);
    },
  };
}
