import type { Digest, PageRun } from "@sporelet/page-image";

/**
 * The files that a frozen machine consists of. `disk` is absent on machines without one (Layer 0), `kernel`
 * and `initramfs` on those whose maker gave none: their state can be resumed, but not be booted cold.
 * `workingset` is what a clone touched from its resume to its first response, recorded once.
 */
export const snapshotFiles = ["memory", "vmstate", "disk", "kernel", "initramfs", "workingset"] as const;
export type SnapshotFile = (typeof snapshotFiles)[number];

/** Without these there is no machine. */
export const neededFiles = ["memory", "vmstate"] as const satisfies SnapshotFile[];

/** The files that are page images, and that a child has only pages of its own of. */
export const imageFiles = ["memory", "disk"] as const satisfies SnapshotFile[];
export type ImageFile = (typeof imageFiles)[number];

/** Something for each file of a machine. */
export type PerFile<T> = Record<(typeof neededFiles)[number], T> & {
  [file in Exclude<SnapshotFile, (typeof neededFiles)[number]>]?: T;
};

export interface FileRecord {
  /** See `digestOf` in @sporelet/page-image. */
  digest: Digest;
  sizeBytes: number;
  /** Bytes in pages that are not zero. */
  usedBytes: number;
  /** Of memory and disk: bytes in pages that differ from the parent; without a parent `usedBytes`. */
  ownBytes?: number;
}

/** What is known of a snapshot beside its files. It is stored as JSON and never changes. */
export interface SnapshotConfig {
  formatVersion: 2;
  /** ISO 8601, UTC. */
  created: string;
  /** 0: kernel and init; 1: a Compose project, warm; 2 and above: what was frozen from a clone. */
  layer: number;
  /** The snapshot whose clone was frozen. It need not be in the store: the files here are whole. */
  parent?: Digest;
  /** What it was made from, for people: a directory, a machine's name. */
  source: string;
  vmm: {
    driver: string;
    version: string;
    accelerator: string;
    /** What the guest's programs are made for, by OCI's names: amd64, arm64. */
    architecture?: string;
    machineType?: string;
    cpuModel?: string;
    /** With hardware virtualisation: who made the CPU, and what it offered, by the names of /proc/cpuinfo. */
    cpuVendor?: string;
    cpuFeatures?: string[];
    /** In software: frequency of the guest's time stamp counter, which is the host's. */
    tscKhz?: number;
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

/** Pages of the images that may differ from the parent's; all others are the same. */
export type ChangedPages = { readonly [file in ImageFile]?: readonly PageRun[] };

/** A config as its author gives it: the store adds what it knows itself. */
export type SnapshotDescription = Omit<SnapshotConfig, "formatVersion" | "created" | "files"> &
  Partial<Pick<SnapshotConfig, "formatVersion" | "created">> & {
    files?: Partial<PerFile<FileRecord>>;
    /**
     * What its author knows to have changed since `parent`, so that digests cost no more than that. Not
     * stored. What is not given is found by comparing with the parent, if that is in the store.
     */
    changed?: ChangedPages;
  };
