import { randomBytes } from "node:crypto";
import type { Dirent } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { processStartTicks, syncPath } from "@sporelet/host";

/** Where things are in the store. */
export interface Layout {
  root: string;
  cache: string;
  snapshots: string;
  machines: string;
  /** Blobs of registries, by digest. */
  blobs: string;
  /** Blobs of which only a part has arrived. */
  partial: string;
  /** Snapshots that machines run from while they are being fetched; made by who does that. */
  lazy: string;
  /** How snapshots are published. */
  publications: string;
  /** Unfinished and half-removed things; nothing in it counts. */
  tmp: string;
  tags: string;
}

export function layoutOf(root: string): Layout {
  const at = (name: string) => join(root, name);
  return {
    root,
    cache: at("cache"),
    snapshots: at("snapshots"),
    machines: at("machines"),
    blobs: at("blobs"),
    partial: at("partial"),
    lazy: at("lazy"),
    publications: at("publications"),
    tmp: at("tmp"),
    tags: at("tags.json"),
  };
}

/** Names of temporary directories that this process works with. */
const ours = new Set<string>();

/** A path under `tmp` that nobody has and that says whose it is: PID-STARTTICKS-RANDOM. */
async function temporaryPath(layout: Layout): Promise<string> {
  const ticks = (await processStartTicks(process.pid)) ?? 0;
  const name = `${process.pid}-${ticks}-${randomBytes(6).toString("hex")}`;
  ours.add(name);
  return join(layout.tmp, name);
}

/** Makes a directory of this process's own under `tmp`. */
export async function makeTemporary(layout: Layout): Promise<string> {
  const path = await temporaryPath(layout);
  await mkdir(path, { mode: 0o700 });
  return path;
}

/** Removes a temporary directory and all that is in it; one that is gone already is fine. */
export async function removeTemporary(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
  ours.delete(basename(path));
}

/**
 * Takes a directory away in one step and then removes what was in it. Files that a machine has open or
 * mapped stay valid for it: they are unlinked, never written to. Needs no space.
 *
 * @returns false when there was none.
 */
export async function takeAway(layout: Layout, path: string): Promise<boolean> {
  const temporary = await temporaryPath(layout);
  try {
    await rename(path, temporary);
    await syncPath(dirname(path));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  } finally {
    await removeTemporary(temporary);
  }
}

/** Removes what processes that have ended left in `tmp`. */
export async function sweepTemporary(layout: Layout): Promise<string[]> {
  const removed: string[] = [];
  for (const { name } of await entriesOf(layout.tmp)) {
    const [pid, ticks] = name.split("-").map(Number);
    const alive = pid !== undefined && ticks !== undefined && (await processStartTicks(pid)) === ticks;
    if (alive && (pid !== process.pid || ours.has(name))) continue;
    await rm(join(layout.tmp, name), { recursive: true, force: true });
    removed.push(name);
  }
  return removed;
}

export async function entriesOf(directory: string): Promise<Dirent[]> {
  return readdir(directory, { withFileTypes: true });
}

/** Names of things in the store are file names: nothing that leads out of their directory, and no surprises. */
export function requireSafeName(name: string, operation: string): string {
  if (/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$/.test(name)) return name;
  throw new SporeletError({
    code: "invalid_argument",
    operation,
    subject: JSON.stringify(name),
    reason: "such names are letters, digits, and . _ - after the first character, 128 at most",
  });
}
