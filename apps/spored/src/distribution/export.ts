import { randomBytes } from "node:crypto";
import { access, mkdir, readdir, realpath, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { HandlerContext } from "@connectrpc/connect";
import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { cloneFile, syncPath } from "@sporelet/host";
import type { SnapshotFile, StoredSnapshot } from "@sporelet/store";
import { snapshotMessage } from "../messages.ts";
import type { Node } from "../node.ts";
import { createQueues } from "../together.ts";
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

/** Exports into the same directory come one after the other. */
const queues = createQueues();
const configName = "layer1.config";
/** All that an export may write, whatever the snapshot has. */
const allNames = [configName, ...Object.values(plainNames).map((ending) => `layer1.${ending}`)];
const leftOver = /^\.layer1\.[a-z]+\.[0-9a-f]{12}$/;

async function writeFiles(
  snapshot: StoredSnapshot,
  { directory, force }: api.ExportSnapshotRequest,
  reports: Reports,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const place = await realpath(directory);
  const write = async () => {
    if (!force) await requireAbsent(directory);
    await sweep(place);
    const staged = new Map<string, string>();
    try {
      await stageFiles(snapshot, place, staged, reports, signal);
      signal.throwIfAborted();
      await putInPlace(place, staged);
    } finally {
      for (const temporary of staged.values()) await rm(temporary, { force: true });
    }
  };
  await queues(place, write, signal);
}

/**
 * Writes the files beside those that they may replace, so that an export that fails leaves what was there.
 *
 * @param staged gets where each file is, by its name
 */
async function stageFiles(
  snapshot: StoredSnapshot,
  directory: string,
  staged: Map<string, string>,
  reports: Reports,
  signal: AbortSignal,
): Promise<void> {
  const stage = async (name: string, write: (temporary: string) => Promise<unknown>) => {
    const temporary = path.join(directory, `.${name}.${randomBytes(6).toString("hex")}`);
    staged.set(name, temporary);
    await write(temporary);
    await syncPath(temporary);
  };
  for (const [file, ending] of Object.entries(plainNames)) {
    const source = snapshot.files[file as SnapshotFile];
    if (source === undefined) continue;
    const name = `layer1.${ending}`;
    const report = reports.item(name, name);
    await stage(name, (temporary) => cloneFile(source, temporary, { mode: 0o644, signal }));
    report.state("done");
  }
  await stage(configName, async (temporary) => writeFile(temporary, await storedConfig(snapshot)));
}

/**
 * Gives the files their names. The config goes first and comes last: without it the others are no snapshot, so that a
 * crash in between never leaves the files of two that look like one.
 */
async function putInPlace(directory: string, staged: ReadonlyMap<string, string>): Promise<void> {
  const at = (name: string) => path.join(directory, name);
  await rm(at(configName), { force: true });
  await syncPath(directory);
  for (const name of allNames) if (!staged.has(name)) await rm(at(name), { force: true });
  for (const [name, temporary] of staged) {
    if (name === configName) await syncPath(directory);
    await rename(temporary, at(name));
  }
  await syncPath(directory);
}

/** Removes what an export left that was killed. */
async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (leftOver.test(name)) await rm(path.join(directory, name), { force: true });
  }
}

/** Also what this snapshot does not have: with the rest it would be taken for a part of it. */
async function requireAbsent(directory: string): Promise<void> {
  for (const name of allNames) {
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
