/** What spored tells a server of lazy files, and what it hears of it. All of it is plain data. */
import type { PageImageLayer, WholeFile, WholeFileLayer } from "@sporelet/oci";
import type { RegistryAccess } from "../distribution/client.ts";

/** Where a snapshot's blobs are. */
export interface LazyOrigin {
  /** How the registry is reached. Credentials are looked up by whoever asks the registry. */
  access: RegistryAccess;
  /** `host[:port]`. */
  registry: string;
  /** The name after it. */
  repository: string;
}

/** The layers of a snapshot's manifest. */
export interface LazyLayers {
  memory: readonly PageImageLayer[];
  disk: readonly PageImageLayer[];
  files: Readonly<Partial<Record<WholeFile, WholeFileLayer>>>;
}

/** A server that fetches: given on its stdin, and never written to a disk. */
export interface FetchSpec {
  kind: "fetch";
  /** Existing directory; the flat files are made in it, and the mount `mnt`. */
  directory: string;
  /** Path of the Unix socket that it is spoken to by. */
  socket: string;
  /** As a person wrote it. */
  name: string;
  origin: LazyOrigin;
  layers: LazyLayers;
  /** Sizes of the flat images as the config has them; 0 for a machine without a disk. */
  imageBytes: Readonly<Record<"memory" | "disk", number>>;
  /** See `FetcherOptions`. */
  patienceMs?: number;
}

/** A server that serves local files and writes down which pages are touched, in which order. */
export interface RecordSpec {
  kind: "record";
  directory: string;
  socket: string;
  name: string;
  /** Paths of flat files. */
  memory: string;
  disk?: string;
}

export type ServerSpec = FetchSpec | RecordSpec;

/** A process that ended because its pages could not be had. */
export interface VictimRecord {
  pid: number;
  reason: string;
}

export interface ServerStatus {
  /** complete: all files are there, and durable. */
  state: "fetching" | "complete" | "failed";
  fetchedBytes: number;
  /** Of all that has to be fetched. */
  totalBytes: number;
  /** Why nothing comes at the moment, or will. */
  problem?: string;
  victims: readonly VictimRecord[];
}

/** The first line that a server writes to its stdout. */
export type ServerReadiness = { ready: true } | { error: Record<string, string | undefined> };

/** Files of a server's directory. */
export const lazyFiles = {
  mount: "mnt",
  /** What became of machines whose pages could not be had, for a spored that was not there. */
  victims: "victims.json",
  /** Exists once all files are there and durable. */
  complete: "complete",
} as const;
