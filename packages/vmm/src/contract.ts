/**
 * What a virtual machine monitor has to do for Sporelet.
 *
 * Terms. A **machine** is one VMM process with a running or paused guest. A **frozen state** is what
 * `freeze` writes: `memory`, a sparse file as large as the guest's memory whose offset is the guest's
 * physical page order, and `vmstate`, the state of CPUs and devices. A **slot** is a VMM process that was
 * started for one frozen state and waits to run it; a driver that can load the state without running the guest
 * does so at once.
 *
 * Life of a machine:
 *
 *   boot ──────────────► running ◄──► paused ──► freeze writes memory and vmstate
 *   prepare ► slot ► resume ─┘                   (the machine stays paused; resume goes on)
 *
 * Rules that every driver keeps, and that the conformance suite (`conformance.ts`) checks:
 *
 *  1. A machine's memory file is never written by a machine that was resumed from it; it is mapped private.
 *  2. `freeze` never changes a file that another machine maps. The machine can go on after it.
 *  3. Disks and network are the caller's: a driver opens what it is given, and creates nothing outside
 *     `directory` and `runtimeDirectory`.
 *  4. `stop` ends the process in bounded time, however it behaves; when it returns the process is reaped.
 *     The VMM processes outlive the process that started them: `attach` takes one over again.
 *  5. An operation that fails leaves no process of its own behind; its error carries the tail of the VMM's log.
 *  6. Every wait has a deadline and takes a signal; nothing polls.
 */
import type { Duplex } from "node:stream";

export type DriverName = "qemu" | "firecracker" | "cloud-hypervisor";
export type Accelerator = "kvm" | "tcg";

/** What the driver found on this host. */
export interface Probe {
  driver: DriverName;
  /**
   * What states are tied to: version and package of the VMM, and where the driver defines the machine its
   * revision. Absent when the VMM is not usable at all; then `problems` says why.
   */
  version?: string;
  /** Type of the machines that the driver makes. Absent where `version` is. */
  machineType?: string;
  /** Model of their CPUs by accelerator, as the VMM names it. Absent where `version` is. */
  cpuModels?: Readonly<Partial<Record<Accelerator, string>>>;
  binary?: string;
  /** Usable accelerators, best first, each proved by running a guest. Empty when the VMM is not usable. */
  accelerators: Accelerator[];
  /** What is missing or does not work, for people: "KVM: a stock kernel did not get through boot". */
  problems: { finding: string; remedy?: string }[];
}

export interface ProbeOptions {
  /** Kernel and initramfs of Layer 0 for trying an accelerator. Without them only what is certain is said. */
  guest?: { kernel: string; initramfs: string };
  /** Directory in which answers are remembered, by host, VMM and boot. */
  cacheDirectory?: string;
  signal?: AbortSignal;
}

/** The part of a machine that its state depends on: equal for the machine that froze and those that resume. */
export interface MachineShape {
  cpus: number;
  memoryBytes: number;
  accelerator: Accelerator;
  /** Number of virtio disks, in order; `disks` of the spec has as many. */
  disks: number;
  network: NetworkBackend["kind"] | "none";
  /** MAC address of the guest's interface at boot. */
  mac: string;
}

/** Where the guest's network interface ends on the host. */
export type NetworkBackend =
  /** A tap device in a network namespace (a path such as /run/netns/x) that exist already. */
  | { kind: "tap"; netns: string; tap: string }
  /** The VMM's own user-mode network, for hosts without root. */
  | { kind: "user"; forwards: { hostAddress: string; hostPort: number; guestPort: number }[] };

export interface MachineFiles {
  /** Existing directory of this machine: logs go here (`console.log`, `vmm.log`). */
  directory: string;
  /** Existing directory for sockets, which are named after the machine's id; a short path (80 bytes or less). */
  runtimeDirectory: string;
  /** Raw disk images, opened read-write unless `readOnly`. */
  disks: { path: string; readOnly?: boolean }[];
  network?: NetworkBackend;
}

export interface BootSpec extends MachineFiles {
  id: string;
  shape: MachineShape;
  /** Uncompressed ELF kernel, or whatever the driver takes. */
  kernel: string;
  initramfs: string;
  /** Added to what the driver itself needs on the kernel command line. */
  kernelArguments: string[];
  /** File that becomes the guest's memory, created by the driver; on the store's file system. */
  memory: string;
}

export interface SlotSpec extends MachineFiles {
  id: string;
  /**
   * Words before the VMM's command line: a program that prepares itself and becomes the VMM by execve(2), with
   * the environment and the file descriptors 3 to 5 that it was given.
   */
  launcher?: readonly string[];
  /**
   * Lets the kernel merge the VMM's pages with equal ones of other processes that ask for the same (KSM). Who
   * sets this sees to it that those are of the same trust domain. Default: false.
   */
  mergeMemory?: boolean;
  shape: MachineShape;
  /** The frozen state: never written. */
  memory: string;
  vmstate: string;
  /** They are in the memory already; for drivers that name them all the same. */
  kernel?: string;
  initramfs?: string;
  kernelArguments: string[];
}

/** A VMM process that waits to run a frozen state. */
export interface Slot extends AsyncDisposable {
  readonly id: string;
  readonly pid: number;
  /** Resolves when all that can be done ahead is done; rejects with why it cannot be resumed. */
  readonly prepared: Promise<void>;
  /** Settles when the process has ended, for whatever reason, also after it was resumed. */
  readonly ended: Promise<void>;
  /**
   * Loads the state, unless it is loaded already, and lets the guest run.
   * `firstWords` are written to the agent channel before the guest runs, so that they wait for it.
   * `diskBytesPerSecond` limits what it reads from its disks and writes to them together, for each disk.
   * @returns the machine and when (`performance.now()`) its state was loaded, not before the call.
   */
  resume(options?: {
    firstWords?: Uint8Array;
    diskBytesPerSecond?: number | undefined;
    signal?: AbortSignal;
  }): Promise<{ machine: Machine; channel: Duplex; loadedAt: number }>;
  /** Ends the process; a slot that was resumed is no longer the owner of it. */
  discard(): Promise<void>;
}

/** How a machine's memory is laid out in the VMM's address space. */
export interface MemoryRegion {
  /** Address in the VMM process. */
  address: number;
  bytes: number;
  /** Offset in the memory file. */
  offset: number;
  /**
   * What is there instead of the memory file, after a balloon or a discard: anonymous memory, whose pages are
   * zero unless they were written to; another file's; or nothing, which reads as zeros.
   */
  replaced?: "anonymous" | "other" | "nothing";
}

export interface Machine extends AsyncDisposable {
  readonly id: string;
  readonly pid: number;
  /** Whether memory is a private mapping of a frozen state (a clone), or the file itself (booted). */
  readonly origin: "boot" | "resume";
  pause(): Promise<void>;
  unpause(): Promise<void>;
  /**
   * Opens the channel to the guest agent. There is one at a time; opening a second one fails.
   * Resolves as soon as bytes can be written; whether the agent listens shows by its answer.
   */
  openChannel(signal?: AbortSignal): Promise<Duplex>;
  /**
   * Closes the channel and waits until the agent waits for the next one (see agent.proto), so that a
   * freeze catches it there. Call after AgentService.Quiesce.
   */
  parkAgent(channel: Duplex, signal?: AbortSignal): Promise<void>;
  /**
   * Writes the device state of the paused machine to `vmstate` (created, not yet synced). Memory is the
   * caller's: see `captureMemory` in this package.
   */
  saveState(vmstate: string, signal?: AbortSignal): Promise<void>;
  /** Host mappings that hold the guest's memory, all of it. */
  memoryMap(): Promise<MemoryRegion[]>;
  /**
   * Calls `listener` whenever the guest is stopped because an image of its finds no room for what it writes: about
   * twice a second for as long as that is so, and it goes on by itself when there is room. Returns how to stop
   * listening. A VMM that gives the guest an I/O error instead never calls it.
   */
  onFullDisk(listener: () => void): () => void;
  /** Ends the VMM process at once. */
  stop(): Promise<void>;
  /** Settles when the process has ended, for whatever reason. */
  readonly ended: Promise<MachineEnd>;
  /** What `attach` needs later; plain data. */
  readonly record: MachineRecord;
}

export interface MachineEnd {
  /** guest: powered off or rebooted; stopped: by us; crashed: anything else. */
  reason: "guest" | "stopped" | "crashed";
  detail?: string;
}

/** Enough to take a machine over after a restart of the process that started it. Plain data. */
export interface MachineRecord {
  driver: DriverName;
  id: string;
  pid: number;
  /** Field 22 of /proc/PID/stat: a pid that was reused does not match. */
  startTicks: number;
  origin: "boot" | "resume";
  directory: string;
  runtimeDirectory: string;
  memory: string;
}

export interface Vmm {
  readonly name: DriverName;
  probe(options?: ProbeOptions): Promise<Probe>;
  /** Starts a machine cold. Returns once the VMM runs the guest; the agent answers later. */
  boot(spec: BootSpec, signal?: AbortSignal): Promise<Machine>;
  prepare(spec: SlotSpec, signal?: AbortSignal): Promise<Slot>;
  /** Takes over a running machine; undefined when its process no longer exists. */
  attach(record: MachineRecord, signal?: AbortSignal): Promise<Machine | undefined>;
}
