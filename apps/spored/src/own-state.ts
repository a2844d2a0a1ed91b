/**
 * The state that a machine was suspended as. It is the machine's alone and lies in its directory, so it needs
 * neither digests nor a place among the snapshots, and goes with the machine:
 *
 *   DIRECTORY/state-XXXXXXXX/memory       a reflink of what it ran from, with its own pages written over that
 *                            pages        those pages once more, until `memory` is synced
 *                            vmstate
 *                            disk         its disk at that instant; the very file, not a copy
 *                            workingset   its snapshot's, if that has one
 *                            config.json  its snapshot's config, with the VMM and the shape that it really had
 *
 * The machine's record names the directory. A machine that was woken goes on from it and maps `memory`, the rest is
 * removed then. Directories that the record does not name are what a crash left.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import { syncPath } from "@sporelet/host";
import { parseConfig, type SnapshotConfig, type StoredSnapshot } from "@sporelet/store";
import { applyPageJournal } from "@sporelet/vmm";
import type { MachineRecord } from "./record.ts";

/** A machine's own state, in the form in which snapshots are resumed. */
export type OwnState = Pick<StoredSnapshot, "config" | "files">;

/** Path of the directory with a machine's own state; undefined when it was never suspended. */
export function ownStatePath({ directory, ownState }: MachineRecord): string | undefined {
  return ownState === undefined ? undefined : path.join(directory, ownState);
}

/** Makes a directory for the next state. @returns its name */
export async function makeOwnState({ directory }: MachineRecord): Promise<string> {
  const name = `state-${randomBytes(4).toString("hex")}`;
  await mkdir(path.join(directory, name), { mode: 0o700 });
  return name;
}

/** The config of the state that a machine goes on from; undefined when that is its snapshot. */
export async function ownConfig(record: MachineRecord): Promise<SnapshotConfig | undefined> {
  const directory = ownStatePath(record);
  if (directory === undefined) return undefined;
  const file = path.join(directory, "config.json");
  return parseConfig(await readFile(file, "utf8"), file);
}

/**
 * The state of a suspended machine.
 * @throws SporeletError `corrupt` when some of it is missing
 */
export async function readOwnState(record: MachineRecord): Promise<OwnState> {
  const directory = ownStatePath(record);
  const context = { operation: "read the state of", subject: record.name };
  if (directory === undefined) {
    throw new SporeletError({ ...context, code: "corrupt", reason: "its record names none" });
  }
  try {
    const config = await ownConfig(record);
    if (config === undefined) throw new Error("no config");
    const at = (file: string) => path.join(directory, file);
    const needed = { memory: at("memory"), vmstate: at("vmstate") };
    const files = record.diskBytes > 0 ? { ...needed, disk: at("disk") } : needed;
    await Promise.all(Object.values(files).map((file) => stat(file)));
    return { config, files: { ...files, workingset: at("workingset") } };
  } catch (error) {
    const reason = `some of it is missing in ${directory}`;
    throw new SporeletError({ ...context, code: "corrupt", reason, cause: error });
  }
}

/** Whether a machine's directory holds a whole state of it, whatever its record says or does not say. */
export async function holdsOwnState(directory: string): Promise<boolean> {
  const names = (await readdir(directory)).filter((name) => name.startsWith("state-"));
  const whole = names.map(async (name) => {
    // The config is written last.
    const files = ["config.json", "vmstate", "memory"].map((file) => stat(path.join(directory, name, file)));
    return (await Promise.allSettled(files)).every(({ status }) => status === "fulfilled");
  });
  return (await Promise.all(whole)).includes(true);
}

/** Completes a state of whose memory the host's end may have taken a part. */
export async function completeOwnState(record: MachineRecord, signal?: AbortSignal): Promise<void> {
  const directory = ownStatePath(record);
  if (directory === undefined) return;
  try {
    await applyPageJournal(path.join(directory, "pages"), path.join(directory, "memory"), signal);
  } catch (error) {
    // Everything was synced.
    if ((error as { code?: string }).code !== "not_found") throw error;
  }
}

/** Syncs the memory of a state, which then needs its journal no more. One that is gone is fine. */
export async function settleOwnState(record: MachineRecord): Promise<void> {
  const directory = ownStatePath(record);
  if (directory === undefined) return;
  try {
    await syncPath(path.join(directory, "memory"));
    await rm(path.join(directory, "pages"), { force: true });
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
  }
}

/** What a woken machine does not need any more of the state that it goes on from. */
export async function thinOwnState(record: MachineRecord): Promise<void> {
  const directory = ownStatePath(record);
  if (directory === undefined) return;
  await Promise.all(
    ["vmstate", "disk", "pages"].map((file) => rm(path.join(directory, file), { force: true })),
  );
}

/** Removes the states that a machine's record does not name. */
export async function removeOtherStates({ directory, ownState }: MachineRecord): Promise<void> {
  const others = (await readdir(directory)).filter((name) => name.startsWith("state-") && name !== ownState);
  await Promise.all(others.map((name) => rm(path.join(directory, name), { recursive: true, force: true })));
}
