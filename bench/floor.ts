/**
 * The floor: how quickly a bare QEMU brings a snapshot back when nothing else is done. It shares no code with
 * Sporelet, only the snapshot's files, and uses the same command line and the same Hello. What Sporelet takes
 * beyond this is its own. QEMU preloads dist/private-discard.so here too: without it the first memory that a guest
 * gives back would be a hole in the snapshot.
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
  /** Of that, since the loaded machine was told to run: what a resume from a prepared process takes. */
  resumeMs: number;
  /** The same once more for a guest that has done it before, as one in a slot has. */
  againMs: number;
}

interface FloorOptions {
  /** Holds config.json, memory, vmstate and, where the machine has one, disk. */
  snapshotDirectory: string;
  /** Path that begins those of the disks' copies: on the snapshot's file system, so that they can be reflinks. */
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
export async function runFloor(options: FloorOptions): Promise<FloorRun[]> {
  const results: FloorRun[] = [];
  for (let i = 0; i < (options.runs ?? 10); i++) {
    const [machine] = await prepareBare(options, 1);
    if (machine === undefined) throw new Error("no machine was prepared");
    try {
      const { monitorMs, loadedMs } = machine;
      const resumeMs = await machine.resume("rehearsal");
      await machine.stop();
      const againMs = await machine.resume();
      results.push({ monitorMs, loadedMs, agentMs: loadedMs + resumeMs, resumeMs, againMs });
    } finally {
      await machine.end();
    }
  }
  return results;
}

/**
 * One machine, started, told to run and to become unique for good, programs thawed: unlike the first time of `runFloor`,
 * which is a rehearsal.
 * @returns until the first bytes of the agent's answer are there, milliseconds
 */
export async function runFloorStart(options: FloorOptions): Promise<number> {
  const [machine] = await prepareBare(options, 1);
  if (machine === undefined) throw new Error("no machine was prepared");
  try {
    return machine.loadedMs + (await machine.resume());
  } finally {
    await machine.end();
  }
}

/**
 * `count` machines that are prepared are told to run at once.
 * @param rehearsed have each become unique once before, one after the other, as guests in slots have
 * @returns until the last has answered, milliseconds
 */
export async function runFloorBurst(
  options: FloorOptions,
  count: number,
  { rehearsed }: { rehearsed: boolean },
): Promise<number> {
  const machines = await prepareBare(options, count);
  try {
    if (rehearsed) {
      for (const machine of machines) {
        await machine.resume("rehearsal");
        await machine.stop();
      }
    }
    return Math.max(...(await Promise.all(machines.map((machine) => machine.resume()))));
  } finally {
    await Promise.all(machines.map((machine) => machine.end()));
  }
}

/** A process that has loaded the snapshot and waits. */
export interface BareMachine {
  pid: number;
  monitorMs: number;
  loadedMs: number;
  /**
   * Lets it run. After a rehearsal, and a stop, that can be done once more.
   * @param kind default: for good
   * @returns until the first bytes of the agent's answer are there, milliseconds
   */
  resume(kind?: HelloKind): Promise<number>;
  /** Lets it stand still. */
  stop(): Promise<void>;
  end(): Promise<void>;
}

/** Prepares machines, one after the other. */
export async function prepareBare(options: FloorOptions, count: number): Promise<BareMachine[]> {
  const { snapshotDirectory, diskCopy } = options;
  const { shape } = JSON.parse(readFileSync(join(snapshotDirectory, "config.json"), "utf8")) as {
    shape: Shape;
  };
  const machines: BareMachine[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const directory = mkdtempSync(join(tmpdir(), "floor-"));
      const disk = diskCopy === undefined ? join(directory, "disk") : `${diskCopy}-${i}`;
      const tap = shape.network === "tap" ? `fl${process.pid}-${i}` : undefined;
      const clear = () => {
        if (tap !== undefined) execFileSync("ip", ["link", "delete", tap]);
        rmSync(disk, { force: true });
        rmSync(directory, { recursive: true });
      };
      if (tap !== undefined) execFileSync("ip", ["tuntap", "add", "dev", tap, "mode", "tap"]);
      try {
        if (shape.disks > 0) {
          rmSync(disk, { force: true });
          const copy = ["--reflink=auto", "--sparse=always", join(snapshotDirectory, "disk"), disk];
          execFileSync("cp", copy);
        }
        machines.push(await startBare(snapshotDirectory, directory, shape, { disk, tap, clear }));
      } catch (error) {
        clear();
        throw error;
      }
    }
    return machines;
  } catch (error) {
    for (const machine of machines) await machine.end();
    throw error;
  }
}

async function startBare(
  snapshot: string,
  directory: string,
  shape: Shape,
  own: { disk: string; tap: string | undefined; clear: () => void },
): Promise<BareMachine> {
  const words = floorCommandLine(join(snapshot, "memory"), directory, shape, own);
  const state = openSync(join(snapshot, "vmstate"), "r");

  const library = openSync(join(import.meta.dirname, "../dist/private-discard.so"), "r");
  const preload = { LD_PRELOAD: "/proc/self/fd/5", SPORELET_PRIVATE_MEMORY: join(snapshot, "memory") };

  const start = performance.now();
  const qemu = spawn("qemu-system-x86_64", words, {
    env: { ...process.env, ...preload },
    stdio: ["ignore", "ignore", "pipe", "pipe", state, library],
  });
  closeSync(state);
  closeSync(library);
  let log = "";
  qemu.stderr?.on("data", (text) => {
    log += text;
  });
  const exited = once(qemu, "exit");
  const died = exited.then(() => Promise.reject(new Error(`QEMU ended: ${log}`)));
  died.catch(() => {});
  const monitor = qemu.stdio[3] as Duplex;
  monitor.on("error", () => {});
  const end = async () => {
    monitor.destroy();
    qemu.kill("SIGKILL");
    await exited;
  };
  try {
    // One after the other without waiting: QEMU answers the second when it has loaded the state.
    monitor.write('{"execute":"qmp_capabilities"}\n{"execute":"query-status"}\n');
    const heard = replies(monitor, 2);
    const monitorMs = (await Promise.race([heard.first, died])) - start;
    const loadedMs = (await Promise.race([heard.all, died])) - start;
    const channel = connect(join(directory, "agent"));
    await Promise.race([once(channel, "connect"), died]);
    return {
      pid: qemu.pid ?? 0,
      monitorMs,
      loadedMs,
      async resume(kind = "resume") {
        const resumedAt = performance.now();
        channel.write(resumeFrame(shape.network === "none" ? undefined : shape.mac, kind));
        monitor.write('{"execute":"cont"}\n');
        await Promise.race([once(channel, "data"), died]);
        return performance.now() - resumedAt;
      },
      async stop() {
        const stopped = new Promise<void>((resolve) => {
          monitor.on("data", (bytes) => {
            if (String(bytes).includes('"STOP"')) resolve();
          });
        });
        monitor.write('{"execute":"stop"}\n');
        await Promise.race([stopped, died]);
      },
      async end() {
        channel.destroy();
        await end();
        own.clear();
      },
    };
  } catch (error) {
    await end();
    throw error;
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
    ...["-device", "virtio-balloon-device,free-page-reporting=on"],
    ...["-global", "migration.send-configuration=off", "-S", "-incoming", "fd:4"],
  ];
}

type HelloKind = "resume" | "rehearsal";

/** The Hello of agent.proto for a clone, encoded by hand: field number and wire type, then the value. */
export function resumeFrame(mac: string | undefined, kind: HelloKind = "resume"): Buffer {
  const kinds = { resume: 2n, rehearsal: 4n };
  const network = [text(1, mac ?? ""), text(2, "10.107.0.2/24"), text(3, "10.107.0.1")];
  const body = Buffer.concat([
    ...[varint(1, 1n), varint(2, kinds[kind]), varint(3, BigInt(Date.now()) * 1_000_000n)],
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
    const columns = ["monitorMs", "loadedMs", "agentMs", "resumeMs", "againMs"] as const;
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
      resumeMs: median("resumeMs"),
      againMs: median("againMs"),
    };
    process.stdout.write(line("median", medians));
  }
}
