/**
 * QEMU's command line for a machine. Pure: the same machine gives the same words.
 *
 * What a state is loaded into has to have the devices of the machine that was frozen, in the same order;
 * therefore everything that differs between a boot and a restore is kept apart at the end. docs/vmm.md says
 * why each option is there and what it measured.
 */
import { SporeletError } from "@sporelet/errors";
import type { MachineFiles, MachineShape } from "../contract.ts";

/**
 * Number of the machine that this driver defines, as states see it: raised whenever devices, their order, the
 * machine type or the CPU model change. It is part of the probe's version, which states are tied to.
 */
export const machineRevision = 3;

export const machineType = "microvm";

/**
 * arch-capabilities: reads an MSR that some hosts refuse. la57: page walks of five levels instead of four make
 * everything under emulation slower, and no guest has so much memory.
 */
export const cpuModels = { kvm: "host,-arch-capabilities", tcg: "max,la57=off" } as const;

/** File descriptors that the process inherits besides its standard three. */
export const inheritedFd = { monitor: 3, vmstate: 4, privateDiscard: 5 } as const;

export interface CommandLine extends MachineFiles {
  id: string;
  shape: MachineShape;
  memory: string;
  start:
    | { kind: "boot"; kernel: string; initramfs: string; kernelArguments: string[] }
    /** Loads the state from `inheritedFd.vmstate` as soon as it is up, and then waits for `cont`. */
    | { kind: "restore" };
}

/** Sockets of a machine. */
export function socketsOf(machine: { id: string; runtimeDirectory: string }): {
  monitor: string;
  agent: string;
} {
  const base = `${machine.runtimeDirectory}/${machine.id}`;
  return { monitor: `${base}.qmp`, agent: `${base}.agent` };
}

/** Logs of a machine. */
export function logsOf(machine: { directory: string }): { console: string; vmm: string } {
  return { console: `${machine.directory}/console.log`, vmm: `${machine.directory}/vmm.log` };
}

/** Arguments for qemu-system-x86_64. */
export function commandLine(machine: CommandLine): string[] {
  const { shape, start } = machine;
  checkShape(machine);
  const sockets = socketsOf(machine);
  const share = start.kind === "boot" ? "on" : "off";
  const words = [
    ["-name", `guest=${quote(machine.id)}`],
    ["-machine", machineWords()],
    ["-accel", shape.accelerator === "kvm" ? "kvm" : "tcg,thread=multi,tb-size=64"],
    ["-cpu", cpuModels[shape.accelerator]],
    ["-smp", `${shape.cpus}`],
    ["-m", `${shape.memoryBytes / mebibyte}M`],
    [
      "-object",
      `memory-backend-file,id=m0,size=${shape.memoryBytes},mem-path=${quote(machine.memory)},share=${share}`,
    ],
    ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ["-chardev", `file,id=console,path=${quote(logsOf(machine).console)},append=on`],
    ["-device", "isa-serial,chardev=console"],
    // Two monitors: the inherited one is there at once, the socket is for whoever takes the machine over.
    ["-chardev", `socket,id=starter,fd=${inheritedFd.monitor}`],
    ["-mon", "chardev=starter,mode=control"],
    ["-chardev", `socket,id=monitor,path=${quote(sockets.monitor)},server=on,wait=off`],
    ["-mon", "chardev=monitor,mode=control"],
    ["-chardev", `socket,id=agent,path=${quote(sockets.agent)},server=on,wait=off`],
    ["-device", "virtio-serial-device,max_ports=2"],
    // The id makes QEMU send VSERPORT_CHANGE.
    ["-device", "virtserialport,id=agent,chardev=agent,name=agent"],
    ["-object", "rng-builtin,id=rng0"],
    ["-device", "virtio-rng-device,rng=rng0"],
    ...networkWords(machine),
    ...machine.disks.flatMap((disk, index) => diskWords(disk, index)),
    // Gives back what the guest frees. Of a clone's memory that takes private-discard.ts.
    ["-device", "virtio-balloon-device,free-page-reporting=on"],
    // MIGRATION events instead of polling; device states have no configuration section.
    ["-global", "migration.x-events=on", "-global", "migration.send-configuration=off"],
    start.kind === "boot"
      ? [
          ["-kernel", start.kernel],
          ["-initrd", start.initramfs],
          ["-append", kernelCommandLine(start.kernelArguments)],
        ].flat()
      : // The kernel is in the memory already: not reading it again is most of the start of a clone.
        ["-S", "-incoming", `fd:${inheritedFd.vmstate}`],
  ];
  return words.flat();
}

const mebibyte = 1024 * 1024;

function machineWords(): string {
  // rtc: without KVM's clock the guest has no other time. pit and pic: the timer is calibrated by them.
  return [
    machineType,
    "x-option-roms=off",
    "isa-serial=on",
    "rtc=on",
    "acpi=on",
    "mem-merge=off",
    "memory-backend=m0",
  ].join(",");
}

function kernelCommandLine(kernelArguments: string[]): string {
  return ["console=ttyS0", "reboot=t", "panic=-1", ...kernelArguments].filter(unique).join(" ");
}

function networkWords({ shape, network }: CommandLine): string[][] {
  if (network === undefined) return [];
  const device = ["-device", `virtio-net-device,netdev=net0,mac=${shape.mac}`];
  if (network.kind === "tap") {
    return [["-netdev", `tap,id=net0,ifname=${quote(network.tap)},script=no,downscript=no`], device];
  }
  const forwards = network.forwards.map(
    ({ hostAddress, hostPort, guestPort }) =>
      `,hostfwd=tcp:${hostAddress}:${hostPort}-10.107.0.2:${guestPort}`,
  );
  const backend = "user,id=net0,net=10.107.0.0/24,host=10.107.0.1,dns=10.107.0.3,dhcpstart=10.107.0.2";
  return [["-netdev", backend + forwards.join("")], device];
}

/** The device's name for the monitor; a state knows it by its place. */
export function diskDevice(index: number): string {
  return `vd${index}`;
}

function diskWords({ path, readOnly }: MachineFiles["disks"][number], index: number): string[][] {
  const options = [
    `driver=raw,node-name=disk${index},read-only=${readOnly === true ? "on" : "off"}`,
    // A guest's trim makes holes. Its flushes are not passed on: a machine's disk is worth nothing without
    // the machine, and whoever keeps a copy of the disk syncs that.
    "discard=unmap,cache.no-flush=on",
    `file.driver=file,file.filename=${quote(path)}`,
  ];
  return [
    ["-blockdev", options.join(",")],
    ["-device", `virtio-blk-device,id=${diskDevice(index)},drive=disk${index}`],
  ];
}

function checkShape({ id, shape, disks, network, runtimeDirectory }: CommandLine): void {
  const invalid = (reason: string) =>
    new SporeletError({ code: "invalid_argument", operation: "start QEMU for", subject: id, reason });
  if (shape.memoryBytes % mebibyte !== 0) throw invalid("the memory size is not a multiple of 1 MiB");
  if (disks.length !== shape.disks)
    throw invalid(`it has ${disks.length} disks but a shape with ${shape.disks}`);
  if ((network?.kind ?? "none") !== shape.network) {
    throw invalid(`it has network ${network?.kind ?? "none"} but a shape with ${shape.network}`);
  }
  // sockaddr_un holds 108 bytes with the final zero.
  const path = socketsOf({ id, runtimeDirectory }).agent;
  if (Buffer.byteLength(path) > 107) throw invalid(`the socket path ${path} is longer than 107 bytes`);
}

/** QEMU's option syntax separates by commas; a doubled one stands for itself. */
function quote(value: string): string {
  return value.replaceAll(",", ",,");
}

function unique<T>(value: T, index: number, all: T[]): boolean {
  return all.indexOf(value) === index;
}
