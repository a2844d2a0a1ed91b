import { randomUUID } from "node:crypto";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { agent, connectAgent, execOutput, firstContact, type HelloInit, helloFrame } from "@sporelet/api";
import { prepareCapture } from "../capture.ts";
import type { Machine, Slot } from "../contract.ts";

/** A boot takes seconds on an idle host. */
const contactTimeoutMs = 90_000;

/** A guest that was met: its machine, and the agent to run commands by. */
export interface Guest extends AsyncDisposable {
  machine: Machine;
  generationId: string;
  /** Runs a shell command and resolves with what it printed; one that fails is an error. */
  run(command: string): Promise<string>;
  /** Quiesces the guest and parks its agent. */
  park(): Promise<void>;
  /** Opens a new channel to the same guest. */
  reconnect(): Promise<Guest>;
}

type GuestNetwork = { mac: string; address: string; gateway: string };

/** A Hello for a new clone. */
function resumeHello(generationId: string, network?: GuestNetwork): HelloInit {
  const machineId = generationId.replaceAll("-", "");
  return {
    kind: agent.HelloKind.RESUME,
    generationId,
    machineId,
    hostname: "clone",
    ...(network && { network }),
  };
}

export async function meetBooted(machine: Machine, network?: GuestNetwork): Promise<Guest> {
  const generationId = randomUUID();
  const channel = await machine.openChannel();
  const hello = { kind: agent.HelloKind.BOOT, generationId, ...(network && { network }) };
  await firstContact(channel, hello, { timeoutMs: contactTimeoutMs });
  return guestOf(machine, channel, generationId);
}

/** Goes on with a guest that is running: after a pause, a parking, a restart of the host's side. */
export async function meetAgain(machine: Machine, generationId: string): Promise<Guest> {
  const channel = await machine.openChannel();
  await firstContact(
    channel,
    { kind: agent.HelloKind.RECONNECT, generationId },
    { timeoutMs: contactTimeoutMs },
  );
  return guestOf(machine, channel, generationId);
}

/** Resumes a slot, with the Hello waiting for the guest. */
export async function meetResumed(
  slot: Slot,
  network?: GuestNetwork,
  options: { diskBytesPerSecond?: number } = {},
): Promise<Guest> {
  const generationId = randomUUID();
  const { machine, channel } = await slot.resume({
    ...options,
    firstWords: helloFrame(resumeHello(generationId, network)),
  });
  await firstContact(channel, "sent", { timeoutMs: contactTimeoutMs });
  return guestOf(machine, channel, generationId);
}

function guestOf(machine: Machine, channel: Duplex, generationId: string): Guest {
  const connection = connectAgent(channel);
  return {
    machine,
    generationId,
    async run(command) {
      const { code, stdout, stderr } = await execOutput(connection.client, { argv: ["sh", "-c", command] });
      if (code !== 0) throw new Error(`${command} ended with ${code}: ${stderr}`);
      return stdout.toString().trim();
    },
    async park() {
      const { error } = await connection.client.quiesce({ dropCaches: true });
      if (error !== undefined) throw new Error(error.message);
      await machine.parkAgent(channel);
      await connection.close();
    },
    async reconnect() {
      await connection.close();
      return await meetAgain(machine, generationId);
    },
    [Symbol.asyncDispose]: () => machine.stop(),
  };
}

/** The files of a frozen machine. */
export interface Frozen {
  memory: string;
  vmstate: string;
  disk: string;
}

/** Freezes a guest into a directory: the machine stays paused, its agent parked. */
export async function freeze(guest: Guest, directory: string): Promise<Frozen> {
  const { machine } = guest;
  const frozen = {
    memory: join(directory, "memory"),
    vmstate: join(directory, "vmstate"),
    disk: join(directory, "disk"),
  };
  await guest.park();
  await using capture = await prepareCapture({ machine, target: frozen.memory });
  await machine.pause();
  await machine.saveState(frozen.vmstate);
  await capture.take();
  await capture.complete();
  await copyFile(join(machine.record.directory, "disk"), frozen.disk);
  return frozen;
}
