import { readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import { type MachineLimits, writeFileAtomic } from "@sporelet/host";
import type { Accelerator, DriverName, MachineRecord as VmmRecord } from "@sporelet/vmm";
import type { Identity } from "./identity.ts";

export type MachineState = "starting" | "running" | "paused" | "suspended" | "stopped" | "failed";

export interface PortRecord {
  hostAddress: string;
  host: number;
  guest: number;
}

export type NetworkRecord =
  | { kind: "netns"; name: string; netns: string; tap: "tap0"; dns: string[] }
  | { kind: "user"; forwards: { hostAddress: string; hostPort: number; guestPort: number }[] }
  | { kind: "none" };

/** How long its start took, milliseconds, by stages in their order; see Timings in node.proto. */
export interface TimingsRecord {
  readyMs: number;
  planMs: number;
  slotMs: number;
  loadMs: number;
  agentMs: number;
  readyStageMs: number;
  /** It lay ready in a slot. */
  fromPool: boolean;
  /** The guest's own part of `agentMs`. */
  guest?: Record<"clockMs" | "entropyMs" | "identityMs" | "networkMs" | "thawMs" | "hooksMs", number>;
}

/**
 * What is kept of a machine in `machine.json` of its directory: enough to take it over, or to clear it away.
 * Never in it: the environment given to the machine.
 */
export interface MachineRecord {
  formatVersion: 1;
  id: string;
  name: string;
  state: MachineState;
  /** As the person wrote it. */
  snapshot: string;
  snapshotDigest: string;
  /** ISO 8601, UTC. */
  created: string;
  origin: "boot" | "resume";
  vmm: DriverName;
  accelerator: Accelerator;
  memoryBytes: number;
  cpus: number;
  /** What it may take of the host. */
  limits?: MachineLimits | undefined;
  /** Trust domain whose machines' memory is merged with its own. */
  ksm?: string | undefined;
  diskBytes: number;
  diskClone?: "reflink" | "copy";
  /** Its memory and disk came, or still come, by way of a server of lazy files: the id of that fetch. */
  lazy?: string | undefined;
  directory: string;
  runtimeDirectory: string;
  network: NetworkRecord;
  ports: PortRecord[];
  identity: Identity;
  /** Remove the machine when it stops. */
  remove: boolean;
  timings?: TimingsRecord;
  /** What the driver needs to take the machine over; absent before its process exists. */
  process?: VmmRecord | undefined;
  /** Why it is `stopped` or `failed`, or why it did not wake. */
  failure?: string | undefined;
  /** Of a machine that is suspended, or was: which of its directories holds that state; see own-state.ts. */
  ownState?: string | undefined;
  /** Of a machine that is suspended, or was: the names of the variables that it was given. */
  variables?: string[];
  /** Connections to its ports wake it. */
  wakeOnConnect?: boolean;
  /** It is suspended when nothing happened for so long. */
  idleSuspendMs?: number;
}

function recordPath(directory: string): string {
  return path.join(directory, "machine.json");
}

/** As `writeRecord`, for what is to survive a crash of the host. */
export async function writeRecordDurably(record: MachineRecord): Promise<void> {
  await writeFileAtomic(recordPath(record.directory), JSON.stringify(record));
}

/**
 * Writes a record by rename, without fsync, which would cost the resume path milliseconds: what spored's own
 * end leaves is in the page cache, and after a crash of the host the processes and namespaces that the
 * record names are gone as well. Not for a suspended machine, which needs none of them: the file may be empty then.
 */
export async function writeRecord(record: MachineRecord): Promise<void> {
  const target = recordPath(record.directory);
  await writeFile(`${target}.new`, JSON.stringify(record), { mode: 0o600 });
  await rename(`${target}.new`, target);
}

/**
 * The record in a machine's directory; undefined when none was written yet, so that the machine was never handed over.
 * @throws SporeletError `corrupt` when there is one that cannot be read
 */
export async function readRecord(directory: string): Promise<MachineRecord | undefined> {
  const file = recordPath(directory);
  const context = {
    operation: "read the record of",
    subject: path.basename(directory),
    code: "corrupt",
  } as const;
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new SporeletError({ ...context, reason: `${file} cannot be read`, cause: error });
  }
  const record = parsed(text);
  if (record === undefined) {
    const what = text === "" ? "is empty, as after a crash of the host" : "is no record of a machine";
    throw new SporeletError({ ...context, reason: `${file} ${what}` });
  }
  if (record.formatVersion !== 1) {
    const reason = `${file} has the format ${record.formatVersion}, which this version does not know`;
    throw new SporeletError({ ...context, reason });
  }
  if (record.directory !== directory) {
    throw new SporeletError({ ...context, reason: `${file} is that of a machine in ${record.directory}` });
  }
  return record;
}

function parsed(text: string): MachineRecord | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as MachineRecord) : undefined;
  } catch {
    return undefined;
  }
}
