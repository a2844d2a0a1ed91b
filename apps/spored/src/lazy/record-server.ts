import { rmSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import path from "node:path";
import { type FuseAccess, mountFuse, pageBytes } from "@sporelet/host";
import { encodeWorkingSet } from "@sporelet/page-image";
import { createMachineDisk } from "./disk.ts";
import { readFully } from "./image.ts";
import { serveRpc } from "./rpc.ts";
import { lazyFiles, type RecordSpec } from "./spec.ts";
import { createTouchRecorder } from "./working-set.ts";

/**
 * Serves local files and writes down which of their pages are touched, in which order. What one machine writes
 * to the disk goes into a file of its own.
 *
 * @param onReady called once a machine can be started
 * @returns when it is told to end, or nobody is connected any more; nothing of it is mounted then
 */
export async function runRecordServer(
  spec: RecordSpec,
  stop: AbortSignal,
  onReady: () => void,
): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const at = (name: string) => path.join(spec.directory, name);
  const recorder = createTouchRecorder(pageBytes);
  const mountpoint = at(lazyFiles.mount);
  await mkdir(mountpoint);
  const files = mountFuse({ mountpoint, name: "sporelet" });
  undo.defer(() => files.close());
  const openBase = async (file: string) => {
    const handle = undo.use(await open(file, "r"));
    const { size: imageBytes } = await handle.stat();
    const read = (offset: number, target: Buffer) => readFully(handle.fd, offset, target);
    return { fd: handle.fd, imageBytes, read };
  };
  const note =
    (image: "memory" | "disk") =>
    (offset: number, bytes: number, { kind }: FuseAccess) => {
      // A page that is only written to is not needed.
      if (kind === "read") recorder.touch(image, offset, bytes);
      return undefined;
    };
  const memory = await openBase(spec.memory);
  const noteMemory = note("memory");
  files.add("memory", {
    sizeBytes: memory.imageBytes,
    writable: false,
    cached: true,
    ready: (access) => noteMemory(access.offset, access.bytes, access),
    read: memory.read,
  });
  if (spec.disk !== undefined) {
    const base = { ...(await openBase(spec.disk)), ready: note("disk") };
    files.add("disk", undo.use(createMachineDisk(at("disk"), base)));
  }
  const ended = Promise.withResolvers<void>();
  undo.use(
    await serveRpc(
      spec.socket,
      {
        /** What was touched so far, as the file `workingset` has it, in base64. */
        workingSet: () => encodeWorkingSet(recorder.runs).toString("base64"),
        finish: () => ended.resolve(),
      },
      // One client, which lives as long as the recording.
      (connections) => {
        if (connections === 0) ended.resolve();
      },
    ),
  );
  undo.defer(() => rmSync(spec.socket, { force: true }));
  onReady();
  stop.addEventListener("abort", () => ended.resolve(), { once: true });
  await Promise.race([ended.promise, files.ended]);
}
