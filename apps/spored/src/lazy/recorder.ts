import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { countPages, parseWorkingSet } from "@sporelet/page-image";
import type { Recorder } from "@sporelet/snapshot-builder";
import type { Node } from "../node.ts";
import { lazyRoot, removeLazy } from "./entry.ts";
import { exactPagesLauncher } from "./launch.ts";
import { connectRpc } from "./rpc.ts";
import { startLazyServer } from "./spawn.ts";
import { lazyFiles } from "./spec.ts";

/** Records working sets for the builder; undefined where this host cannot. */
export function createRecorder(
  node: Pick<Node, "store" | "runtimeDirectory" | "home" | "lazy">,
): Recorder | undefined {
  if (node.lazy.unavailable !== undefined) return undefined;
  return {
    async open({ memory, disk }, signal) {
      await using undo = new AsyncDisposableStack();
      const name = `recording-${randomBytes(6).toString("hex")}`;
      // What a crash leaves here is swept like the rest of lazy files.
      const directory = path.join(lazyRoot(node.store), name);
      const socket = path.join(node.runtimeDirectory, `lazy-${name}.sock`);
      await mkdir(directory, { recursive: true, mode: 0o700 });
      undo.defer(() => removeLazy(directory));
      const spec = { kind: "record", directory, socket, name, memory, ...(disk && { disk }) } as const;
      await startLazyServer(spec, path.join(node.home, "lazy.log"), signal);
      const rpc = undo.use(await connectRpc(socket, { operation: "record the working set", subject: name }));
      undo.defer(async () => {
        await rpc.call("finish").catch(() => {});
        await rpc.closed;
      });
      const owned = undo.move();
      const mounted = (file: string) => path.join(directory, lazyFiles.mount, file);
      return {
        memory: mounted("memory"),
        ...(disk !== undefined && { disk: mounted("disk") }),
        launcher: exactPagesLauncher(),
        async workingSet() {
          const bytes = Buffer.from(await rpc.call<string>("workingSet"), "base64");
          return { bytes, pages: countPages(parseWorkingSet(bytes)) };
        },
        [Symbol.asyncDispose]: () => owned.disposeAsync(),
      };
    },
  };
}
