/**
 * The library that is loaded into a clone's QEMU so that memory which the guest frees is given back without a hole
 * in the snapshot's file (native/private-discard.c). A clone without it would destroy its snapshot with the first
 * page that its guest reports, and ld.so(8) starts a program all the same when it cannot load what it was told to.
 * So it is looked for in the process before the guest may run.
 */
import { accessSync, constants } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { SporeletError } from "@sporelet/errors";
import { inheritedFd } from "./command-line.ts";

/** Beside a bundle (dist/), and where `tools/build-native` puts it seen from this file. */
const places = ["private-discard.so", "../../../../dist/private-discard.so"].map((place) =>
  fileURLToPath(new URL(place, import.meta.url)),
);

/**
 * Path of the library.
 * @throws SporeletError `not_found` when it was not built
 */
export function privateDiscardLibrary(): string {
  const found = places.find((place) => {
    try {
      accessSync(place, constants.R_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (found !== undefined) return found;
  throw new SporeletError({
    code: "not_found",
    operation: "find the library that keeps snapshots whole",
    subject: places.at(-1),
    reason: "it was not built",
    hint: "run tools/build-native",
  });
}

/** For a process that inherited the library as `inheritedFd.privateDiscard`: a path may hold what ld.so splits at. */
export function privateDiscardEnvironment(memory: string): Record<string, string> {
  return { LD_PRELOAD: `/proc/self/fd/${inheritedFd.privateDiscard}`, SPORELET_PRIVATE_MEMORY: memory };
}

/**
 * Looks whether a process that answers has the library.
 * @throws SporeletError `unsupported` when it has not: its guest must not run
 */
export async function requirePrivateDiscard({ id, pid }: { id: string; pid: number }): Promise<void> {
  const [maps, { ino }] = await Promise.all([
    // A process that has ended has none, and its end is told by whoever waits for it.
    readFile(`/proc/${pid}/maps`, "utf8").catch(() => ""),
    stat(privateDiscardLibrary()),
  ]);
  if (maps === "" || new RegExp(`^\\S+ r-xp \\S+ \\S+ ${ino} .*private-discard`, "m").test(maps)) return;
  throw new SporeletError({
    code: "unsupported",
    operation: "prepare a clone",
    subject: id,
    reason:
      "this QEMU does not load private-discard.so, without which its guest would make holes in the snapshot",
    hint: "use a QEMU that is linked dynamically: apt-get install qemu-system-x86",
  });
}
