/** What machines may take of their host, and what they share there: priorities, control groups and merged memory. */
import { SporeletError } from "@sporelet/errors";
import {
  type MachineLimits,
  type MachineWeight,
  type MemoryMerging,
  machineGroups,
  memoryMerging,
  weighProcess,
} from "@sporelet/host";
import type { Log } from "./log.ts";
import type { MachineRecord } from "./record.ts";

/** The part of a machine's record that counts here. */
type Subject = Pick<MachineRecord, "id" | "name" | "directory" | "limits" | "ksm">;

export interface Resources {
  /** @throws SporeletError `unsupported` when the host cannot keep a machine to these limits. */
  require(limits: MachineLimits | undefined, operation: string, subject: string): void;
  /**
   * Before the VMM of a machine starts: its trust domain becomes the host's.
   * @throws SporeletError `failed_precondition` when another domain has the host; see `MemoryMerging`
   */
  enterDomain(id: string, ksm: string | undefined): Promise<void>;
  /** What a VMM weighs from now on. Some 0.1 ms. Without it a machine is slower beside busy ones, and works all the same. */
  weigh(pid: number, weight: MachineWeight): void;
  /** Before a machine runs: sets what it may take. */
  limit(machine: Subject, pid: number): Promise<void>;
  /** Its VMM has ended, or was never there. @returns why, when that was for a limit */
  ended(machine: Pick<Subject, "id" | "limits">): Promise<string | undefined>;
  /** Of a machine that did not start. @throws SporeletError `resource_exhausted` when that was for its limit. */
  explain(machine: Subject, operation: string): Promise<void>;
  /** At spored's start: goes on for machines that run, and clears away what is left of others. */
  adopt(machines: readonly Subject[]): Promise<void>;
}

export function createResources({ owner, log }: { owner: string; log: Log }): Resources {
  const groups = machineGroups({ owner });
  const merging: MemoryMerging = memoryMerging();
  /** Machines of the trust domain. This process is a member of it for all of them while they start. */
  const members = new Set<string>();
  const ended: Resources["ended"] = async ({ id, limits }) => {
    const { outOfMemory } = await groups.remove(id);
    if (members.delete(id)) await (members.size === 0 ? merging.leave(process.pid) : merging.sweep());
    if (!outOfMemory) return undefined;
    const mebibytes = Math.round((limits?.memoryBytes ?? 0) / 2 ** 20);
    return `the kernel ended it: it took more than its memory limit of ${mebibytes} MiB`;
  };
  return {
    ended,
    require(limits = {}, operation, subject) {
      groups.require(limits, operation, subject);
    },
    async enterDomain(id, ksm) {
      if (ksm === undefined) return;
      members.add(id);
      try {
        await merging.enter(ksm, process.pid);
      } catch (error) {
        members.delete(id);
        throw error;
      }
    },
    weigh(pid, weight) {
      try {
        weighProcess(pid, weight);
      } catch (error) {
        log.warn("no weight", { pid, error: String(error) });
      }
    },
    async limit({ id, directory, limits, ksm }, pid) {
      if (limits !== undefined) await groups.limit(id, pid, limits, directory);
      if (ksm !== undefined) await merging.enter(ksm, pid);
    },
    async explain(machine, operation) {
      if (machine.limits === undefined) return;
      const reason = await ended(machine);
      if (reason === undefined) return;
      const hint = "give it a higher --memory-limit";
      throw new SporeletError({ code: "resource_exhausted", operation, subject: machine.name, reason, hint });
    },
    async adopt(machines) {
      // Machines are worth more than the order of what surrounds them.
      const tell = (error: unknown) => log.error("control groups or merging not taken over", error);
      await groups.sweep(new Set(machines.map(({ id }) => id))).catch(tell);
      for (const { id, ksm } of machines) {
        if (ksm === undefined) continue;
        members.add(id);
        await merging.enter(ksm, process.pid).catch(tell);
      }
      await merging.sweep().catch(tell);
    },
  };
}
