import { SporeletError } from "@sporelet/errors";
import type { Machine as VmmMachine } from "@sporelet/vmm";
import type { AgentLink } from "./agent-link.ts";
import type { MachineNetwork } from "./network.ts";
import type { PublishedPorts } from "./ports.ts";
import { type MachineRecord, writeRecord } from "./record.ts";
import { createGate } from "./together.ts";

/** What a machine has while its process lives. */
export interface LiveParts {
  vm: VmmMachine;
  agent: AgentLink;
  network: MachineNetwork;
  ports: PublishedPorts;
  /** Keeps spored from ending for lack of work. */
  alive: Disposable;
}

/** A machine of this node: its record, and what it has while it lives. */
export interface ManagedMachine {
  /** Replaced as a whole, never changed in place. */
  readonly record: MachineRecord;
  readonly id: string;
  readonly name: string;
  /** Absent before it runs and after it has stopped. */
  live: LiveParts | undefined;
  /** Aborted as soon as its process has ended, or is about to be: what needs it gives up. */
  readonly gone: AbortController;
  /** Aborted when all that it had is freed and its record says so: follows of its logs end. */
  readonly stopped: AbortController;
  /** Changes the record, in memory at once and then on disk, in the order of the calls. */
  update(change: Partial<MachineRecord>): Promise<void>;
  /** Runs what changes the machine's state, one at a time. */
  exclusive<T>(task: () => Promise<T>): Promise<T>;
  /** Set once the machine is being ended by us, so that its end is no news. */
  ending: boolean;
}

export function createMachine(initial: MachineRecord): ManagedMachine {
  let record = initial;
  const oneByOne = createGate(1);
  const writing = createGate(1);
  return {
    get record() {
      return record;
    },
    id: initial.id,
    name: initial.name,
    live: undefined,
    gone: new AbortController(),
    stopped: new AbortController(),
    async update(change) {
      record = { ...record, ...change };
      await writing(() => writeRecord(record));
    },
    exclusive: (task) => oneByOne(task),
    ending: false,
  };
}

/** @throws SporeletError `failed_precondition` when the machine is in none of these states. */
export function requireState(
  machine: ManagedMachine,
  operation: string,
  states: readonly ("running" | "paused")[],
): LiveParts {
  const { name, record, live } = machine;
  if (live !== undefined && (states as readonly string[]).includes(record.state)) return live;
  throw new SporeletError({
    code: "failed_precondition",
    operation,
    subject: name,
    reason: `it is ${record.state}${record.failure === undefined ? "" : ` (${record.failure})`}`,
    hint: record.state === "paused" ? `sporectl unpause ${name}` : undefined,
  });
}
