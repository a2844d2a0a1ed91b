import { SporeletError } from "@sporelet/errors";
import type { Digest } from "@sporelet/page-image";

/** The files that a frozen machine consists of; `disk` is absent on machines without one (Layer 0). */
export const snapshotFiles = ["memory", "vmstate", "disk", "kernel", "initramfs"] as const;
export type SnapshotFile = (typeof snapshotFiles)[number];

/** Something for each file of a machine. */
export type PerFile<T> = Record<Exclude<SnapshotFile, "disk">, T> & { disk?: T };

export interface FileRecord {
  /** See `digestOf` in @sporelet/page-image. */
  digest: Digest;
  sizeBytes: number;
  /** Bytes in pages that are not zero. */
  usedBytes: number;
}

/** What is known of a snapshot beside its files. It is stored as JSON and never changes. */
export interface SnapshotConfig {
  formatVersion: 1;
  /** ISO 8601, UTC. */
  created: string;
  /** 0: kernel and init; 1: a Compose project, warm; 2 and above: what was frozen from a clone. */
  layer: number;
  /** The snapshot whose clone was frozen. */
  parent?: Digest;
  /** What it was made from, for people: a directory, a machine's name. */
  source: string;
  vmm: {
    driver: string;
    version: string;
    accelerator: string;
    machineType?: string;
    cpuModel?: string;
  };
  shape: {
    cpus: number;
    memoryBytes: number;
    accelerator: "kvm" | "tcg";
    disks: number;
    network: "tap" | "user" | "none";
    mac: string;
  };
  kernel: { release: string; arguments: string[] };
  agent: { protocol: number; version: string };
  files: PerFile<FileRecord>;
  ports: { guest: number; host?: number }[];
  services: string[];
  compose?: { project: string; file: string };
  hookTimeoutMs?: number;
  /** How long the machine stood still for the freeze. */
  pauseMs?: number;
  /** What it can be rebuilt from where its machine state cannot be restored. */
  recipe: unknown;
}

/** A config as its author gives it: the store adds what it knows itself. */
export type SnapshotDescription = Omit<SnapshotConfig, "formatVersion" | "created" | "files"> &
  Partial<Pick<SnapshotConfig, "formatVersion" | "created">> & { files?: Partial<PerFile<FileRecord>> };

/**
 * Reads a stored config.
 *
 * @throws SporeletError `corrupt` when it is not one, `incompatible` when a later version wrote it.
 */
export function parseConfig(text: string, subject: string): SnapshotConfig {
  const context = { operation: "read the snapshot's config", subject };
  let config: Partial<SnapshotConfig> | null;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new SporeletError({ ...context, code: "corrupt", reason: "it is not JSON", cause });
  }
  if (typeof config !== "object" || config === null || typeof config.formatVersion !== "number") {
    throw new SporeletError({ ...context, code: "corrupt", reason: "it has no format version" });
  }
  if (config.formatVersion !== 1) {
    const reason = `its format version ${config.formatVersion} is not known here`;
    throw new SporeletError({ ...context, code: "incompatible", reason, hint: "upgrade Sporelet" });
  }
  for (const name of ["created", "layer", "vmm", "shape", "kernel", "files"] as const) {
    if (config[name] === undefined) {
      throw new SporeletError({ ...context, code: "corrupt", reason: `it lacks ${name}` });
    }
  }
  return config as SnapshotConfig;
}
