/**
 * The floor: how quickly a bare QEMU brings a snapshot back when nothing else is done. It shares no code with
 * Sporelet, only the snapshot's files, and uses the same command line and the same Hello. What Sporelet takes
 * beyond this is its own.
 *
 *   node bench/floor.ts SNAPSHOT-DIRECTORY [RUNS] [--json]
 *
 * Not timed, since Sporelet has them ready too or counts them apart: the disk's copy and the tap device.
 */
import { execFileSync, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";

/** Milliseconds since the start of the process was asked for. */
interface FloorRun {
  /** QEMU's monitor answered. */
  monitorMs: number;
  /** The machine state was loaded. */
  loadedMs: number;
  /** The first bytes of the agent's answer were there. */
  agentMs: number;
}

interface FloorOptions {
  /** Holds config.json, memory, vmstate and, where the machine has one, disk. */
  snapshotDirectory: string;
  /** Where to put the disk's copy: on the snapshot's file system, so that it can be a reflink. */
  diskCopy?: string;
  /** Default: 10. */
  runs?: number;
}

interface Shape {
  cpus: number;
  memoryBytes: number;
  accelerator: "kvm" | "tcg";
  disks: number;
  network: "tap" | "user" | "none";
  mac: string;
}

/** Runs are one after the other, each with a new process and a new copy of the disk. */
export async function runFloor({
  snapshotDirectory,
  diskCopy,
  runs = 10,
}: FloorOptions): Promise<FloorRun[]> {
  const { shape } = JSON.parse(readFileSync(join(snapshotDirectory, "config.json"), "utf8")) as {
    shape: Shape;
  };
  const directory = mkdtempSync(join(tmpdir(), "floor-"));
  const disk = diskCopy ?? join(directory, "disk");
  const tap = shape.network === "tap" ? `floor${process.pid}` : undefined;
  if (tap !== undefined) execFileSync("ip", ["tuntap", "add", "dev", tap, "mode", "tap"]);
  try {
    const results: FloorRun[] = [];
    for (let i = 0; i < runs; i++) {
      if (shape.disks > 0) {
        rmSync(disk, { force: true });
        execFileSync("cp", ["--reflink=auto", "--sparse=always", join(snapshotDirectory, "disk"), disk]);
      }
      results.push(await runOnce(snapshotDirectory, directory, shape, { disk, tap }));
    }
    return results;
  } finally {
    if (tap !== undefined) execFileSync("ip", ["link", "delete", tap]);
    rmSync(disk, { force: true });
    rmSync(directory, { recursive: true });
  }
}

async function runOnce(
  snapshot: string,
  directory: string,
  shape: Shape,
  own: { disk: string; tap: string | undefined },
): Promise<FloorRun> {
  const words = floorCommandLine(join(snapshot, "memory"), directory, shape, own);
  const state = openSync(join(snapshot, "vmstate"), "r");
  const frame = resumeFrame(shape.network === "none" ? undefined : shape.mac);

  const start = performance.now();
  const qemu = spawn("qemu-system-x86_64", words, { stdio: ["ignore", "ignore", "pipe", "pipe", state] });
  let log = "";
  qemu.stderr?.on("data", (text) => {
    log += text;
  });
  const exited = once(qemu, "exit");
  const died = exited.then(() => Promise.reject(new Error(`QEMU ended: ${log}`)));
  died.catch(() => {});
  try {
    const monitor = qemu.stdio[3] as Duplex;
    monitor.on("error", () => {});
    // One after the other without waiting: QEMU answers the second when it has loaded the state.
    monitor.write('{"execute":"qmp_capabilities"}\n{"execute":"query-status"}\n');
    const heard = replies(monitor, 2);
    const monitorMs = (await Promise.race([heard.first, died])) - start;
    const loadedMs = (await Promise.race([heard.all, died])) - start;
    const agent = connect(join(directory, "agent"));
    agent.write(frame);
    await Promise.race([once(agent, "connect"), died]);
    monitor.write('{"execute":"cont"}\n');
    await Promise.race([once(agent, "data"), died]);
    const agentMs = performance.now() - start;
    agent.destroy();
    monitor.destroy();
    return { monitorMs, loadedMs, agentMs };
  } finally {
    closeSync(state);
    qemu.kill("SIGKILL");
    await exited;
  }
}

/** When the first byte came, and when so many commands were answered. */
function replies(monitor: Duplex, count: number): { first: Promise<number>; all: Promise<number> } {
  const first = Promise.withResolvers<number>();
  const all = Promise.withResolvers<number>();
  let text = "";
  monitor.on("data", (bytes) => {
    first.resolve(performance.now());
    text += bytes;
    if (text.split('"return"').length > count) all.resolve(performance.now());
  });
  return { first: first.promise, all: all.promise };
}

/** The devices of Sporelet's machines, which the saved state has to meet. */
function floorCommandLine(
  memory: string,
  directory: string,
  shape: Shape,
  { disk, tap }: { disk: string; tap: string | undefined },
): string[] {
  const kvm = shape.accelerator === "kvm";
  const nic = ["-device", `virtio-net-device,netdev=net0,mac=${shape.mac}`];
  const network = {
    none: [],
    user: ["-netdev", "user,id=net0", ...nic],
    tap: ["-netdev", `tap,id=net0,ifname=${tap},script=no,downscript=no`, ...nic],
  };
  const block = [
    ...[
      "-blockdev",
      `driver=raw,node-name=disk0,discard=unmap,cache.no-flush=on,file.driver=file,file.filename=${disk}`,
    ],
    ...["-device", "virtio-blk-device,id=vd0,drive=disk0"],
  ];
  return [
    ...["-machine", "microvm,x-option-roms=off,isa-serial=on,rtc=on,acpi=on,mem-merge=off,memory-backend=m0"],
    ...["-accel", kvm ? "kvm" : "tcg,thread=multi,tb-size=64"],
    ...["-cpu", kvm ? "host,-arch-capabilities" : "max,la57=off"],
    ...["-smp", `${shape.cpus}`, "-m", `${shape.memoryBytes / 1024 / 1024}M`],
    ...["-object", `memory-backend-file,id=m0,size=${shape.memoryBytes},mem-path=${memory},share=off`],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-chardev", `file,id=console,path=${directory}/console`, "-device", "isa-serial,chardev=console"],
    ...["-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control"],
    ...["-chardev", `socket,id=agent,path=${directory}/agent,server=on,wait=off`],
    ...["-device", "virtio-serial-device,max_ports=2"],
    ...["-device", "virtserialport,id=agent,chardev=agent,name=agent"],
    ...["-object", "rng-builtin,id=rng0", "-device", "virtio-rng-device,rng=rng0"],
    ...network[shape.network],
    ...(shape.disks > 0 ? block : []),
    ...["-global", "migration.send-configuration=off", "-S", "-incoming", "fd:4"],
  ];
}

/** The Hello of agent.proto for a clone, encoded by hand: field number and wire type, then the value. */
export function resumeFrame(mac: string | undefined): Buffer {
  const network = [text(1, mac ?? ""), text(2, "10.107.0.2/24"), text(3, "10.107.0.1")];
  const body = Buffer.concat([
    ...[varint(1, 1n), varint(2, 2n), varint(3, BigInt(Date.now()) * 1_000_000n)],
    ...[bytes(4, randomBytes(64)), text(5, "floor"), text(6, randomBytes(16).toString("hex"))],
    ...(mac === undefined ? [] : [bytes(7, Buffer.concat(network))]),
    text(8, randomUUID()),
  ]);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  return Buffer.concat([head, body]);
}

function varint(field: number, value: bigint): Buffer {
  return Buffer.from([field << 3, ...base128(value)]);
}

function bytes(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...base128(BigInt(value.length))]), value]);
}

function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value));
}

function base128(value: bigint): number[] {
  return value < 128n ? [Number(value)] : [Number(value & 127n) | 128, ...base128(value >> 7n)];
}

if (import.meta.main) {
  const [snapshotDirectory, runs = "10"] = process.argv.slice(2).filter((word) => !word.startsWith("--"));
  if (snapshotDirectory === undefined) {
    process.stderr.write("usage: node bench/floor.ts SNAPSHOT-DIRECTORY [RUNS] [--json]\n");
    process.exit(2);
  }
  const results = await runFloor({ snapshotDirectory, runs: Number(runs) });
  if (process.argv.includes("--json")) process.stdout.write(`${JSON.stringify(results)}\n`);
  else {
    const columns = ["monitorMs", "loadedMs", "agentMs"] as const;
    const line = (name: string, run: FloorRun) =>
      `${name.padEnd(8)}${columns.map((column) => run[column].toFixed(1).padStart(10)).join("")}\n`;
    process.stdout.write(`run     ${columns.map((column) => column.padStart(10)).join("")}\n`);
    for (const [i, run] of results.entries()) process.stdout.write(line(`${i + 1}`, run));
    const median = (column: keyof FloorRun) =>
      results.map((run) => run[column]).sort((a, b) => a - b)[Math.floor(results.length / 2)] ?? Number.NaN;
    const medians = {
      monitorMs: median("monitorMs"),
      loadedMs: median("loadedMs"),
      agentMs: median("agentMs"),
    };
    process.stdout.write(line("median", medians));
  }
}
