import type { SporeletError } from "@sporelet/errors";
import type { Publication, StoredSnapshot } from "@sporelet/store";
import type { WantedContent } from "../distribution/content-key.ts";
import type { ManagedMachine } from "../machine.ts";
import type { LazyLayers, LazyOrigin, ServerStatus } from "./spec.ts";

export interface LazyStart {
  /** As a person wrote it. */
  name: string;
  /** Exactly the bytes that the manifest's config descriptor names: their digest is the snapshot's. */
  configBytes: Buffer;
  layers: LazyLayers;
  origin: LazyOrigin;
  /** The name that the snapshot gets when it is whole. */
  tag?: string;
  /** What is remembered about how it is published. */
  publication: Publication;
}

/** A snapshot of which machines can be resumed while it is fetched. It has no `files.disk`: see `addDisk`. */
export interface LazySnapshot extends StoredSnapshot {
  readonly lazy: LazyFiles;
}

export interface LazyFiles {
  /** Of this fetch, for the records of its machines. */
  readonly id: string;
  /** Makes the disk of a machine. @param file path of the file for what it writes @returns the disk's path */
  addDisk(machineId: string, file: string): Promise<string>;
  removeDisk(machineId: string): Promise<void>;
  /** The snapshot as it is in the store, once all of it is. */
  readonly complete: Promise<StoredSnapshot>;
  readonly status: ServerStatus;
  /** The error of a start that failed, if it failed because pages did not come: with the reason for that. */
  explain(error: SporeletError): Promise<SporeletError | undefined>;
}

/** A lazy snapshot that goes on to be served until this is disposed of and its last machine has ended. */
export interface LazyLease extends Disposable {
  snapshot: LazySnapshot;
}

/** Starts of machines from snapshots that are still being fetched. */
export interface Lazy extends AsyncDisposable {
  /** Why there is no lazy start on this host; undefined when there is. */
  readonly unavailable: string | undefined;
  /**
   * Begins to fetch a snapshot, or joins those who fetch the very same from the same place and have not failed, and
   * waits until machines can be resumed from it: page indexes and machine state are there, and the working set is
   * on its way. When the lease is disposed of the rest is fetched too.
   *
   * @throws SporeletError `unsupported` where there is no lazy start; what the registry's client throws
   */
  start(options: LazyStart, signal: AbortSignal): Promise<LazyLease>;
  /** The snapshot once all of it is in the store, if just this is being fetched from the same place. */
  joins(wanted: WantedContent): Promise<StoredSnapshot> | undefined;
  /**
   * For a machine that was started lazily: waits until its snapshot is whole and in the store, and the file
   * `disk` of its directory is its whole disk. Undefined at once for other machines.
   */
  settled(machine: ManagedMachine, signal: AbortSignal): Promise<StoredSnapshot> | undefined;
  /**
   * The machine runs, and what happens to it from now on is heard of. Pages that it missed before are its end: a
   * guest may have gone on with an error in their place.
   *
   * @throws SporeletError `unavailable` with the reason; the machine is gone then
   */
  started(machine: ManagedMachine): Promise<void>;
  /** Why a machine's process was ended by missing pages, if it was. */
  failureOf(record: ManagedMachine["record"]): Promise<string | undefined>;
  /** The machine's process is gone. */
  released(machine: ManagedMachine): Promise<void>;
  /** At spored's start: finds the servers of an earlier one. */
  adopt(): Promise<void>;
  /** When the machines were taken over: removes what no server serves any more. */
  sweep(): Promise<void>;
}

/** What a snapshot has of a lazy one; undefined for those in the store. */
export function lazyPartsOf(snapshot: StoredSnapshot): LazyFiles | undefined {
  return "lazy" in snapshot ? (snapshot as LazySnapshot).lazy : undefined;
}
