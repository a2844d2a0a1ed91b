import { randomBytes } from "node:crypto";
import { access, mkdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { HandlerContext } from "@connectrpc/connect";
import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { cloneFile, syncPath } from "@sporelet/host";
import type { SnapshotFile, StoredSnapshot } from "@sporelet/store";
import { snapshotMessage } from "../messages.ts";
import type { Node } from "../node.ts";
import { plainNames, storedConfig } from "./plain.ts";
import type { Reports } from "./reports.ts";
import { transferStream } from "./stream.ts";

/** ExportSnapshot: writes a snapshot's files as plain ORAS sends them. */
export function exportSnapshot(
  node: Node,
  request: api.ExportSnapshotRequest,
  context: HandlerContext,
): AsyncGenerator<api.TransferEvent> {
  const what = { operation: "export", subject: request.snapshot };
  return transferStream(node, context, what, async (reports, signal) => {
    const snapshot = await node.store.resolve(request.snapshot);
    using _lease = node.store.lease(snapshot.digest, "export");
    await writeFiles(snapshot, request, reports, signal);
    return { case: "result", value: snapshotMessage(snapshot) };
  });
}

async function writeFiles(
  snapshot: StoredSnapshot,
  { directory, force }: api.ExportSnapshotRequest,
  reports: Reports,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const files = Object.entries(plainNames).flatMap(([file, ending]) => {
    const source = snapshot.files[file as SnapshotFile];
    return source === undefined ? [] : [{ source, name: `layer1.${ending}` }];
  });
  const configName = "layer1.config";
  if (!force) await requireAbsent(directory, [configName, ...files.map(({ name }) => name)]);
  const place = async (name: string, write: (temporary: string) => Promise<unknown>) => {
    const temporary = path.join(directory, `.${name}.${randomBytes(6).toString("hex")}`);
    try {
      await write(temporary);
      await rename(temporary, path.join(directory, name));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  };
  for (const { source, name } of files) {
    const report = reports.item(name, name);
    await place(name, (temporary) => cloneFile(source, temporary, { mode: 0o644, signal }));
    report.state("done");
  }
  // Last: without it the others are no snapshot.
  await place(configName, async (temporary) => writeFile(temporary, await storedConfig(snapshot)));
  await syncPath(directory);
}

async function requireAbsent(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const there = await access(path.join(directory, name)).then(
      () => true,
      () => false,
    );
    if (!there) continue;
    throw new SporeletError({
      code: "already_exists",
      operation: "export to",
      subject: directory,
      reason: `${name} is there already`,
      hint: "choose another directory, or overwrite it with --force",
    });
  }
}
