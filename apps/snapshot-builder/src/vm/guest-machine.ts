/** A machine that is booted to build something in it, and is gone when it is disposed of. */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type AgentClient, agent, connectAgent, firstContact, fromConnectError } from "@sporelet/api";
import { agentGuest } from "@sporelet/compose-preheater";
import { SporeletError } from "@sporelet/errors";
import type { Machine, MachineFiles, MachineShape, Vmm } from "@sporelet/vmm";
import type { Layer0 } from "../layer0/build.ts";
import type { NetworkLease } from "./network.ts";

export interface GuestMachine extends AsyncDisposable {
  readonly machine: Machine;
  readonly client: AgentClient;
  readonly shape: MachineShape;
  readonly agent: { protocol: number; version: string };
  /** What the guest's kernel and agent wrote to the console so far. */
  console(): Promise<string>;
  /** Names of the services of the root file system, in the order of their start. */
  services(signal: AbortSignal): Promise<string[]>;
  /** Waits until a service of the root file system is ready: it runs, or has done its job. */
  serviceReady(name: string, signal: AbortSignal): Promise<void>;
  /** Closes the channel and waits until the agent waits for the next host. */
  park(signal: AbortSignal): Promise<void>;
  /** Shuts the guest down in order and waits for its end. */
  shutdown(signal: AbortSignal): Promise<void>;
}

export interface GuestMachineOptions {
  vmm: Vmm;
  layer0: Pick<Layer0, "kernel" | "initramfs" | "arguments">;
  /** Root disk first; none: the guest stays in its initramfs. */
  disks: MachineFiles["disks"];
  shape: Omit<MachineShape, "disks" | "network" | "mac">;
  network?: NetworkLease;
  /** File for the guest's memory. */
  memory: string;
  /** Existing directory in which one for the machine is made. */
  scratch: string;
  runtimeDirectory: string;
  hookTimeoutMs?: number;
  signal: AbortSignal;
}

/** A guest under software emulation on a busy host reaches its agent within seconds; this is for the worst. */
const firstContactTimeoutMs = 120_000;
const shutdownTimeoutMs = 60_000;
const consoleTailLines = 25;
const tailTimeoutMs = 15_000;
/** Given to machines without a network, whose shape has one all the same. */
const bootMac = "52:54:00:6b:00:02";

const rootArgument = "sporelet.root=/dev/vda";

/** Kernel arguments of a machine: those of Layer 0, and where the root file system is. */
export function kernelArguments(layer0: Pick<Layer0, "arguments">, disks: number): string[] {
  const others = layer0.arguments.filter((argument) => argument !== rootArgument);
  return [...others, ...(disks > 0 ? [rootArgument] : [])];
}

/** The shape of a machine with these disks and that network. */
function shapeOf(options: Pick<GuestMachineOptions, "shape" | "disks" | "network">): MachineShape {
  return {
    ...options.shape,
    disks: options.disks.length,
    network: options.network?.backend.kind ?? "none",
    mac: options.network?.guest.mac ?? bootMac,
  };
}

/**
 * Boots a machine and makes first contact with its agent.
 * @throws SporeletError with the console's tail when the guest does not get that far
 */
export async function bootGuest(options: GuestMachineOptions): Promise<GuestMachine> {
  const { vmm, layer0, disks, network, memory, runtimeDirectory, signal } = options;
  await using cleanup = new AsyncDisposableStack();
  const id = `build-${randomBytes(4).toString("hex")}`;
  const directory = join(options.scratch, id);
  await mkdir(directory);
  cleanup.defer(() => rm(directory, { recursive: true, force: true }));
  const consolePath = join(directory, "console.log");
  const console = () => readFile(consolePath, "utf8").catch(() => "");

  const spec = {
    id,
    directory,
    runtimeDirectory,
    memory,
    shape: shapeOf(options),
    disks,
    kernel: layer0.kernel,
    initramfs: layer0.initramfs,
    kernelArguments: kernelArguments(layer0, disks.length),
    ...(network && { network: network.backend }),
  };
  const machine = cleanup.use(await vmm.boot(spec, signal));
  // Whatever is waited for, a guest that has ended will not do it any more.
  const gone = new AbortController();
  void machine.ended.then(({ reason, detail }) =>
    gone.abort(`${reason}${detail === undefined ? "" : `: ${detail}`}`),
  );
  const alive = AbortSignal.any([signal, gone.signal]);

  try {
    const channel = await machine.openChannel(alive);
    const hello = {
      kind: agent.HelloKind.BOOT,
      hostname: "sporelet",
      machineId: randomBytes(16).toString("hex"),
      generationId: randomUUID(),
      hookTimeoutMs: options.hookTimeoutMs ?? 0,
      ...(network && { network: { ...network.guest, mac: "" } }),
    };
    const reply = await firstContact(channel, hello, { signal: alive, timeoutMs: firstContactTimeoutMs });
    const connection = cleanup.use(connectAgent(channel));
    const owned = cleanup.move();
    return {
      machine,
      shape: spec.shape,
      client: connection.client,
      agent: { protocol: reply.protocol, version: reply.agentVersion },
      console,
      async services(waiting) {
        const reply = await calling("list the services of the guest", () =>
          connection.client.services({}, { signal: AbortSignal.any([waiting, gone.signal]) }),
        );
        return reply.services.map(({ name }) => name);
      },
      serviceReady: (name, waiting) =>
        serviceReady(connection.client, name, AbortSignal.any([waiting, gone.signal])),
      async park(parking) {
        await machine.parkAgent(channel, parking);
        await connection.close();
      },
      async shutdown(waiting) {
        const limit = AbortSignal.any([waiting, AbortSignal.timeout(shutdownTimeoutMs)]);
        await calling("shut the guest down", () => connection.client.shutdown({}, { signal: limit }));
        await settled(machine.ended, limit);
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    if (signal.aborted) throw error;
    const ended = gone.signal.aborted;
    throw new SporeletError({
      code: error instanceof SporeletError ? error.code : "guest_failed",
      operation: "boot a guest",
      reason: ended
        ? `its machine ended (${gone.signal.reason})`
        : error instanceof SporeletError
          ? error.reason
          : String(error),
      log: (await console()).trimEnd().split("\n").slice(-consoleTailLines).join("\n"),
      cause: error,
    });
  }
}

/** Calls the agent; what goes wrong says what was being done. */
export async function calling<T>(operation: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw fromConnectError(error, { operation });
  }
}

/** Waits no longer than the signal allows. */
async function settled<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: abort, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal.aborted) throw signal.reason;
    return await Promise.race([promise, abort]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** The end of a file in the guest; undefined when it cannot be had, which must not hide what it was to explain. */
async function tailInGuest(
  client: AgentClient,
  file: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(tailTimeoutMs)]);
  try {
    const argv = ["tail", "-n", `${consoleTailLines}`, file];
    const { stdout } = await agentGuest(client).exec(argv, { signal: limit });
    return stdout.trimEnd() || undefined;
  } catch {
    return undefined;
  }
}

/** The agent logs each change of a service; each line is a reason to look again. */
async function serviceReady(client: AgentClient, name: string, signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const look = async () => {
    const { services } = await client.services({}, { signal });
    const service = services.find((one) => one.name === name);
    if (service?.state === "running" || (service?.state === "exited" && service.exitCode === 0)) return true;
    if (service === undefined || service.state === "failed") {
      throw new SporeletError({
        code: "guest_failed",
        operation: "start a service of the guest:",
        subject: name,
        reason:
          service === undefined
            ? "the root file system has no such service"
            : `it failed with code ${service.exitCode}`,
        log: service && (await tailInGuest(client, service.log, signal)),
      });
    }
    return false;
  };
  try {
    for await (const _ of client.logs({ follow: true }, { signal: AbortSignal.any([signal, stop.signal]) })) {
      if (await look()) return;
    }
    throw new SporeletError({
      code: "unavailable",
      operation: "start",
      subject: name,
      reason: "the agent's log ended",
    });
  } finally {
    stop.abort();
  }
}
