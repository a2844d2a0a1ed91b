/**
 * Does one thing with an image in a process of its own, and prints what that had in memory at the most, in bytes.
 *
 *     node codec-process.ts encode|decode|digest FROM [TO]
 */
import { readFileSync } from "node:fs";
import { digestOf, encodeBlob, materialize, readIndex } from "../index.ts";

const tasks: Record<string, (from: string, to: string) => Promise<unknown>> = {
  encode: (image, target) => encodeBlob({ image, target }),
  decode: async (path, target) =>
    materialize({ blobs: [{ path, index: (await readIndex(path)).index }], target }),
  digest: (image) => digestOf(image),
};

const [name = "", from = "", to = ""] = process.argv.slice(2);
await tasks[name]?.(from, to);
// Not by getrusage(2): its peak includes that of the process that this one was forked from.
const status = readFileSync("/proc/self/status", "utf8");
const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
process.stdout.write(String(Number(kilobytes) * 1024));
