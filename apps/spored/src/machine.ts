import { SporeletError } from "@sporelet/errors";
import type { Machine as VmmMachine } from "@sporelet/vmm";
import type { AgentLink } from "./agent-link.ts";
import { createIdleness, type Idleness } from "./idleness.ts";
import type { MachineNetwork } from "./network.ts";
import type { PublishedPorts } from "./ports.ts";
import type { PreparedClone } from "./preparation.ts";
import { type MachineRecord, type MachineState, writeRecord, writeRecordDurably } from "./record.ts";
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

/** What a suspended machine has that connections wake. */
interface DormantParts {
  /** They hold their connections. */
  ports: PublishedPorts;
  /** Keeps spored from ending: nobody else would hear the connections. */
  alive: Disposable;
}

/** A machine of this node: its record, and what it has while it lives. */
export interface ManagedMachine {
  /** Replaced as a whole, never changed in place. */
  readonly record: MachineRecord;
  readonly id: string;
  readonly name: string;
  /** The clone that lay ready for it, if one did: whoever starts it owns that. */
  readonly prepared: PreparedClone | undefined;
  /** The connection whose call started it, as long as that is open: who cancels too late learns what there is. */
  startedBy: WeakRef<object> | undefined;
  /** Absent before it runs, while it is suspended and after it has stopped. */
  live: LiveParts | undefined;
  /** Of a suspended machine that connections wake. */
  dormant: DormantParts | undefined;
  /** Counts what keeps it awake, if it is to be suspended when nothing does. */
  readonly idleness: Idleness | undefined;
  /** Aborted as soon as its process has ended, or is about to be: what needs it gives up. New for each process. */
  gone: AbortController;
  /** Aborted when all that it had is freed and its record says so: follows of its logs end. New for each process. */
  stopped: AbortController;
  /**
   * Changes the record, in memory at once and then on disk, in the order of the calls. That of a suspended machine
   * survives a crash of the host: it is all that leads to the machine.
   */
  update(change: Partial<MachineRecord>): Promise<void>;
  /** Changes the record in memory; on disk with the next change. For what is not worth a write of its own. */
  note(change: Partial<MachineRecord>): void;
  /** As `update`, but on disk first, where it survives a crash of the host; nothing changes when that fails. */
  commit(change: Partial<MachineRecord>): Promise<void>;
  /** Runs what changes the machine's state, one at a time. */
  exclusive<T>(task: () => Promise<T>): Promise<T>;
  /** Set once the machine is being ended by us, so that its end is no news. */
  ending: boolean;
}

export function createMachine(initial: MachineRecord, prepared?: PreparedClone): ManagedMachine {
  let record = initial;
  const oneByOne = createGate(1);
  const writing = createGate(1);
  return {
    get record() {
      return record;
    },
    id: initial.id,
    name: initial.name,
    prepared,
    startedBy: undefined,
    live: undefined,
    dormant: undefined,
    idleness: initial.idleSuspendMs ? createIdleness(initial.idleSuspendMs) : undefined,
    gone: new AbortController(),
    stopped: new AbortController(),
    async update(change) {
      record = { ...record, ...change };
      await writing(() => (record.state === "suspended" ? writeRecordDurably : writeRecord)(record));
    },
    note(change) {
      record = { ...record, ...change };
    },
    async commit(change) {
      await writing(async () => {
        const next = { ...record, ...change };
        await writeRecordDurably(next);
        record = next;
      });
    },
    exclusive: (task) => oneByOne(task),
    ending: false,
  };
}

/** What a person may do about the state of a machine. */
const waysOn: Partial<Record<MachineState, (name: string) => string>> = {
  paused: (name) => `sporectl unpause ${name}`,
  suspended: (name) => `sporectl wake ${name}`,
};

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
    hint: waysOn[record.state]?.(name),
  });
}
